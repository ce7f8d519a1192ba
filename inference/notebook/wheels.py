"""The wheels that an image lacks: chosen and downloaded by pip, for the image's Python and platform.

pip is shown the image as a folder of empty wheels, one for each of its packages in its version. So it
chooses versions that go together with what is there, and asks the network only for what is not, whether
or not an index still has the image's own builds.
"""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from inference.notebook.contents import KIT
from inference.notebook.image import Image
from kaggle_rag.runtime.errors import ArtifactError, ConfigError

# Every tag that a machine with glibc 2.28 takes; pip compares the tags given literally.
_PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)] + [
    f"{name}_x86_64" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux")
]
# Marks the image's versions, so that pip never takes an index's wheel of the same version instead.
_MARK = "image"
# Each round adds dependencies of the previous one.
_ROUNDS = 8


class Wheel(NamedTuple):
    """A wheel to bundle: its package, version, and the checksum that the index tells."""

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


def requirements(packages: Iterable[str]) -> list[Requirement]:
    """What the kit needs by its setup.cfg to answer on a CPU or GPU, and these packages of its extras.

    Raises
    ------
    ArtifactError : the kit is not complete here.
    """
    config = configparser.ConfigParser()
    if not config.read(KIT / "setup.cfg", encoding="utf-8"):
        raise ArtifactError(
            "setup.cfg of the kit is missing", where=KIT, cure="run this in a clone of the repository"
        )
    extras = config["options.extras_require"]
    own = _lines(config["options"]["install_requires"])
    optional = [each for group in ("cpu", "train") for each in _lines(extras[group])]
    wanted = {"faiss-cpu", *packages}
    return own + [each for each in optional if each.name in wanted]


def _lines(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.split("\n") if line.strip()]


def require_fitting(image: Image, needed: Sequence[Requirement]) -> None:
    """Raise ``ConfigError`` with every package that the image has in a version that does not fit."""
    if conflicts := image.conflicts(needed):
        raise ConfigError(
            "the image has versions that do not fit: " + ", ".join(conflicts),
            where="--image",
            cure="choose a later image, or a version of the kit that suits this one",
        )


def lacking(image: Image, needed: Sequence[Requirement]) -> list[Wheel]:
    """The wheels that an image lacks to meet these requirements, with all their dependencies, by name.

    Raises
    ------
    ConfigError : pip finds no wheels that fit the image.
    """
    wanted = [each for each in needed if canonicalize_name(each.name) not in image.versions]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        marked = _stand_ins(image, folder / "image")
        for _ in range(_ROUNDS):
            if not wanted:
                return []
            found = [each for each in _chosen(wanted, image, folder) if not _is_there(each, marked)]
            if not (missing := _unmet(found, image)):
                return sorted(map(_wheel, found))
            wanted += missing
    raise ConfigError("the wheels' dependencies have no end", where="--image", cure="use --wheels none")


def _stand_ins(image: Image, folder: Path) -> dict[str, Version]:
    """Write an empty wheel for each package of the image; return the versions that they have."""
    folder.mkdir()
    marked = {
        name: version if version.local else Version(f"{version}+{_MARK}")
        for name, version in image.versions.items()
    }
    for name, version in marked.items():
        stem = f"{name.replace('-', '_')}-{version}"
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(
                f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
            wheel.writestr(
                f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(f"{stem}.dist-info/RECORD", "")
    pins = "".join(f"{name}=={version}\n" for name, version in marked.items())
    (folder / "constraints.txt").write_text(pins, encoding="utf-8")
    return marked


def _chosen(wanted: Sequence[Requirement], image: Image, folder: Path) -> list[Mapping[str, Any]]:
    """What pip would install for these requirements, as the entries of its report."""
    report = folder / "report.json"
    _pip(
        "install", "--dry-run", "--ignore-installed", "--report", str(report), "--target", str(folder / "x"),
        "--find-links", str(folder / "image"), "--constraint", str(folder / "image" / "constraints.txt"),
        *_target(image.python), *map(str, wanted),
    )  # fmt: skip
    entries: list[Mapping[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
    return entries


def _target(python: str) -> list[str]:
    platforms = [flag for platform in _PLATFORMS for flag in ("--platform", platform)]
    return ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]


def _is_there(entry: Mapping[str, Any], marked: Mapping[str, Version]) -> bool:
    name = canonicalize_name(entry["metadata"]["name"])
    return name in marked and Version(entry["metadata"]["version"]) == marked[name]


def _unmet(found: Sequence[Mapping[str, Any]], image: Image) -> list[Requirement]:
    """Dependencies of these wheels on the image's machine that neither they nor the image meet.

    pip evaluates a condition such as ``python_version < "3.12"`` on the machine where it runs, even if
    it chooses for another Python.
    """
    there = {**image.versions}
    for entry in found:
        there[canonicalize_name(entry["metadata"]["name"])] = Version(entry["metadata"]["version"])
    marks = marks_of(image.python)
    unmet = []
    for text in (text for entry in found for text in entry["metadata"].get("requires_dist") or ()):
        needed = Requirement(text)
        version = there.get(canonicalize_name(needed.name))
        if version and needed.specifier.contains(version, prereleases=True):
            continue
        if not needed.marker or needed.marker.evaluate(marks):
            needed.marker = None
            unmet.append(needed)
    return unmet


def marks_of(python: str) -> dict[str, str]:
    """The variables of environment markers on the image's machine."""
    return {
        "implementation_name": "cpython", "implementation_version": f"{python}.0", "os_name": "posix",
        "platform_machine": "x86_64", "platform_release": "", "platform_system": "Linux",
        "platform_version": "", "python_full_version": f"{python}.0", "python_version": python,
        "platform_python_implementation": "CPython", "sys_platform": "linux", "extra": "",
    }  # fmt: skip


def _wheel(entry: Mapping[str, Any]) -> Wheel:
    metadata = entry["metadata"]
    sums = entry["download_info"]["archive_info"]["hashes"]
    return Wheel(canonicalize_name(metadata["name"]), metadata["version"], sums["sha256"])


def download(wheels: Sequence[Wheel], python: str, folder: Path) -> list[Path]:
    """Download exactly these wheels; return their files, in the order of their names."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch, "wheels.txt")
        listed.write_text("".join(f"{each} --hash=sha256:{each.sha256}\n" for each in wheels))
        _pip(
            "download", "--no-deps", "--require-hashes", "--requirement", str(listed), "--dest", str(folder),
            *_target(python),
        )  # fmt: skip
    return sorted(folder.glob("*.whl"))


def _pip(*arguments: str) -> None:
    """Run pip; raise ``ConfigError`` with what it says if it fails."""
    command = [sys.executable, "-m", "pip", *arguments, "--no-input", "--no-color", "--progress-bar", "off"]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ConfigError(
            "pip finds no wheels for the image:\n  " + "\n  ".join(reasons_of(done.stdout + done.stderr)),
            where="--image",
            cure="check the connection and the freeze; --wheels none makes the bundle without wheels",
        )


def reasons_of(said: str) -> list[str]:
    """The lines that tell why: the conflict if there is one, and the errors."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    start = next((n for n, line in enumerate(lines) if "conflict is caused by" in line), None)
    conflict = lines[start : start + 8] if start is not None else []
    return [*conflict, *(line for line in lines if line.startswith("ERROR"))][:10] or lines[-3:]
