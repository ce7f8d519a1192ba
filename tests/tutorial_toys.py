"""A folder in which to follow a tutorial as a reader would; only the network is stood in for."""

import csv
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from conftest import ROOT
from test_readme import blocks

from kaggle_rag.sample import TEST, TRAIN

DOCS = ROOT / "docs"
COUNT = 12

# Kaggle's client, as far as the tutorials ask it: files to download, and a dataset that is ready.
KAGGLE = """\
#!/bin/sh
case "$1 $2" in
"competitions download") mkdir -p data; cp "$STAND_IN/$4.zip" data/ ;;
"datasets status") echo ready ;;
esac
echo "$@" >> "$STAND_IN/kaggle.log"
"""
# That of the hub of models and datasets.
HF = """\
#!/bin/sh
mkdir -p "${8%/}"; cp -r "$STAND_IN/wikipedia/." "${8%/}"
"""
UNZIP = f"""\
#!{sys.executable}
import sys, zipfile
zipfile.ZipFile(sys.argv[3]).extractall(sys.argv[5])
"""


class Place:
    """A folder to follow a tutorial in."""

    def __init__(self, folder):
        self.folder, self.stand_in, self.programs = folder, folder / "stand-in", folder / "bin"
        for made in (self.stand_in, self.programs):
            made.mkdir()
        for name, text in {"kaggle": KAGGLE, "hf": HF, "unzip": UNZIP}.items():
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)

    def competition(self, slug, letters):
        """The archive of a competition's files, from the sample's questions."""
        rows = [[*csv.DictReader(path.open(newline="", encoding="utf-8"))][:COUNT] for path in (TRAIN, TEST)]
        with zipfile.ZipFile(self.stand_in / f"{slug}.zip", "w") as archive:
            for name, table in zip(("train.csv", "test.csv"), rows):
                path = self.folder / name
                _write(path, table, letters)
                archive.write(path, name)
                path.unlink()
            ids = "\n".join(f"{row['id']},A B C" for row in rows[1])
            archive.writestr("sample_submission.csv", f"id,prediction\n{ids}\n")

    def freeze(self):
        """What ``pip freeze`` prints here: a notebook that lacks nothing."""
        done = subprocess.run([sys.executable, "-m", "pip", "freeze"], capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if not line.startswith("-e")]
        (self.folder / "freeze.txt").write_text("\n".join(lines))

    def follow(self, page):
        """Write the page's YAML files, and run its commands in their order."""
        text = (DOCS / page).read_text(encoding="utf-8")
        for before, block in zip(text.split("```yaml\n"), blocks(DOCS / page, "yaml")):
            name = before.rstrip().splitlines()[-1].strip(":").partition("`")[2].partition("`")[0]
            if name.endswith(".yaml"):
                (self.folder / name).write_text(block)
        for block in blocks(DOCS / page, ""):
            self.run(block)

    def run(self, block):
        """Run commands; what they would download is in the cache already."""
        block = block.replace(" --online", "")
        path = [str(self.programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "STAND_IN": str(self.stand_in),
            "PATH": os.pathsep.join(path),
            "PIP_NO_INDEX": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(self.folder / "hub"),
        }  # fmt: skip
        done = subprocess.run(
            ["bash", "-euc", block], cwd=self.folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _write(path, rows, letters):
    """A table with as many options as the competition has."""
    made = []
    for row in rows:
        more = {"E": "none of these"} if "E" in letters else {}
        kept = {key: value for key, value in row.items() if "E" not in letters or key != "is_question"}
        made.append({**kept, **more})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, made[0])
        writer.writeheader()
        writer.writerows(made)
