"""Constraints for the kit's requirements, at the versions that a notebook image has.

  pip download is not needed: pip resolves, nothing is installed. Run it with the image's own Python:

  python3.12 constraints/from_freeze.py FREEZE.txt > constraints/image-2026-02.txt

FREEZE.txt is the image's ``pip freeze``; those of Kaggle's and Colab's images are public, at
https://github.com/googlecolab/backend-info. What the image lacks gets the newest
version that suits the rest; torch is the one of constraints.txt.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Builds for the image's own GPU driver, and what pip itself is made of.
_LEFT_OUT = re.compile(r"torch|torchvision|torchaudio|triton|pip|setuptools|wheel|nvidia-.*|cuda-.*")
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)")


def name_of(name: str) -> str:
    """A name as PEP 503 compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """The lines ``name==version`` of a freeze or of constraints, by name; a URL pins nothing."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if made := _PIN.fullmatch(line.strip()):
            found[name_of(made[1])] = line.strip()
    return found


def resolved(requirements: list[str], constraints: str) -> dict[str, str]:
    """The version of everything that pip would install for these, by name."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        wanted.write_text(constraints, encoding="utf-8")
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed",
             "--report", str(report), "--constraint", str(wanted), *requirements],
            cwd=ROOT, check=True, stdout=sys.stderr,
        )  # fmt: skip
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {name_of(item["metadata"]["name"]): item["metadata"]["version"] for item in found}


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("freeze", type=Path, help="pip freeze of the image")
    flags.add_argument("--extras", default="cpu,train,wikipedia,test", help="extras of setup.cfg")
    arguments = flags.parse_args()
    image = pins(arguments.freeze.read_text(encoding="utf-8"))
    image = {name: line for name, line in image.items() if not _LEFT_OUT.fullmatch(name)}
    torch = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))["torch"]
    found = resolved([f".[{arguments.extras}]"], "\n".join([torch, *image.values()]))
    groups = {
        "As in the image.": [name for name in found if name in image],
        "Not in the image: installed beside it.": [
            name for name in found if name not in image and not _LEFT_OUT.fullmatch(name)
        ],
        "In its place stands the build that is at hand.": ["torch"],
    }
    print(f"# Versions of {arguments.freeze.name}, Python {sys.version_info.major}.{sys.version_info.minor},")
    print("# for what the kit imports and what that needs; made by constraints/from_freeze.py.")
    for title, names in groups.items():
        print(f"# {title}")
        for name in sorted(set(names) - {"kaggle-rag"}):
            print(f"{name}=={found[name].partition('+')[0]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
