"""The Python that a rehearsed notebook runs in: a new virtual environment, over the packages of an image.

What an image would have lies apart and is read-only; the environment itself holds pip at most, so each
case gets a fresh copy of it, in which the notebook installs its wheels.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.tags import sys_tags
from packaging.utils import canonicalize_name

from inference.notebook.rehearsal.opened import OpenedBundle
from inference.notebook.rehearsal.static.wheels import Wheel, tags_of, wheels_of
from inference.notebook.rehearsal.verdict import Findings
from kaggle_rag.runtime.errors import ConfigError

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
KINDS = {
    "this": "the packages of the environment that runs the rehearsal, and the bundle's wheels",
    "wheels": "the bundle's wheels and nothing else",
    "image": "the image's versions of what the kit needs, installed by pip, and the bundle's wheels",
}
KERNEL = "ipykernel"


class Environment(NamedTuple):
    """How an environment is made.

    Attributes
    ----------
    python : the interpreter.
    packages : folders that it sees besides its own, read-only.
    of_kernel : the same for the notebook's own process alone: an image has the notebook's machinery.
    stand_ins : a folder of empty wheels for pip; ``None`` without.
    notes : in what it differs from the image.
    """

    kind: str
    python: Path
    packages: tuple[Path, ...]
    of_kernel: tuple[Path, ...] = ()
    stand_ins: Path | None = None
    notes: tuple[str, ...] = ()

    def make(self, folder: Path) -> None:
        """Make it in a folder: pip, and the way to the packages.

        Raises
        ------
        ConfigError : this Python makes no virtual environments.
        """
        # An image has pip; where these packages do, there need be no second one.
        has_pip = any((path / "pip").is_dir() for path in self.packages)
        command = [str(self.python), "-m", "venv", "--symlinks", str(folder)]
        command += ["--without-pip"] if has_pip else []
        done = subprocess.run(command, capture_output=True, text=True, env=plain_environment())
        if done.returncode:
            said = (done.stdout + done.stderr).strip()[-200:]
            raise ConfigError(
                f"{self.python} cannot make a virtual environment: {said}",
                cure="install its venv module (Debian: apt install python3-venv)",
            )
        (site_of(folder) / "rehearsal.pth").write_text("".join(f"{path}\n" for path in self.packages))


def plain_environment() -> dict[str, str]:
    """This process's variables without those that change what Python finds."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_"))}


def site_of(environment: Path) -> Path:
    """The folder of an environment's own packages."""
    return next(iter((environment / "lib").glob("python3*/site-packages")))


def _own_packages() -> tuple[Path, ...]:
    """This Python's folders of packages; Debian calls some of them otherwise."""
    names = ("site-packages", "dist-packages")
    return tuple(path for path in map(Path, dict.fromkeys(sys.path)) if path.name in names and path.is_dir())


def this_environment(bundle: OpenedBundle, scratch: Path) -> Environment:
    """This process's own packages, and the bundle's wheels as far as they fit its Python.

    Raises
    ------
    ConfigError : wheels are for another Python, and what they hold is not installed here.
    """
    here, python = set(sys_tags()), str(bundle.listed.get("python") or "")
    there = tags_of(python) if python else here
    # Those that fit the image's Python neither are a fault, which the run shows.
    wheels = [wheel for wheel in wheels_of(bundle, Findings()) if wheel.tags & there]
    foreign = [wheel for wheel in wheels if not wheel.tags & here]
    if not foreign:
        return Environment("this", Path(sys.executable), _own_packages())
    lacking = [wheel.name for wheel in foreign if not _version_here(wheel.name)]
    if lacking:
        raise ConfigError(
            f"the wheels are for another Python than this one ({HERE}), and {', '.join(lacking)} is not "
            "installed here to stand in", where="--environment this",
            cure=f"pip install {' '.join(lacking)}, or rehearse with the image's Python",
        )  # fmt: skip
    note = f"the wheels of {', '.join(wheel.name for wheel in foreign)} are for another Python than this one "
    note += f"({HERE}): the versions that are installed here stood in"
    stand_ins = _stand_ins(foreign, scratch / "stand_ins")
    return Environment("this", Path(sys.executable), _own_packages(), stand_ins=stand_ins, notes=(note,))


def _version_here(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _stand_ins(wheels: Iterable[Wheel], folder: Path) -> Path:
    """Empty wheels of these names and versions, which pip installs on any machine."""
    folder.mkdir(parents=True)
    for wheel in wheels:
        stem = f"{wheel.name.replace('-', '_')}-{wheel.version}"
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as file:
            name = f"Metadata-Version: 2.1\nName: {wheel.name}\nVersion: {wheel.version}\n"
            file.writestr(f"{stem}.dist-info/METADATA", name)
            tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            file.writestr(f"{stem}.dist-info/WHEEL", tags)
            file.writestr(f"{stem}.dist-info/RECORD", "")
    return folder


def wheels_environment(bundle: OpenedBundle, scratch: Path) -> Environment:
    """The bundle's wheels alone.

    Raises
    ------
    ConfigError : there are none, or they are for another Python.
    """
    if not bundle.listed.get("wheels"):
        raise ConfigError(
            "the bundle has no wheels", where="--environment wheels",
            cure="rehearse with --environment this, or make the bundle with --image FREEZE.txt",
        )  # fmt: skip
    if (python := str(bundle.listed.get("python"))) != HERE:
        raise ConfigError(
            f"the wheels are for Python {python}, and this is {HERE}", where="--environment wheels",
            cure=f"run the rehearsal with Python {python}, or with --environment image or this",
        )  # fmt: skip
    return Environment("wheels", Path(sys.executable), (), (_linked([KERNEL], scratch / "kernel"),))


def _linked(names: Sequence[str], folder: Path) -> Path:
    """A folder with links to these packages and all that they need, as they are installed here."""
    folder.mkdir(parents=True)
    for found in closure(names):
        for top in {Path(file).parts[0] for file in found.files or () if ".." not in Path(file).parts}:
            source, target = Path(str(found.locate_file(top))), folder / top
            if source.exists() and not target.is_symlink():
                target.symlink_to(source)
    return folder


def closure(names: Sequence[str]) -> Iterator[importlib.metadata.Distribution]:
    """These packages and all that they need, as far as they are installed here."""
    waiting, seen = list(names), set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in seen or not _version_here(name):
            continue
        seen.add(name)
        found = importlib.metadata.distribution(name)
        yield found
        needs = map(Requirement, found.requires or ())
        waiting += [need.name for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]
