"""An environment with the versions of an image's packages, as far as pip finds them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from inference.notebook.image import Image
from inference.notebook.rehearsal.environment import HERE, KERNEL, Environment, plain_environment, site_of
from inference.notebook.rehearsal.opened import OpenedBundle
from inference.notebook.rehearsal.static.wheels import kit_needs, wheels_of
from inference.notebook.rehearsal.verdict import Findings
from inference.notebook.wheels import reasons_of
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import ArtifactError, ConfigError
from kaggle_rag.runtime.files import write_json

_MADE = "made.json"


def image_environment(bundle: OpenedBundle, image: Image | None, folder: Path) -> Environment:
    """What the kit needs, in the image's versions, and the bundle's wheels.

    Parameters
    ----------
    folder : where it is made; if it was made there before, it is used again.

    Raises
    ------
    ConfigError : the image is not known, its Python is not here, or pip does not find its versions.
    """
    image = known(image)
    python = _python_of(image.python)
    bundled = {wheel.name for wheel in wheels_of(bundle, Findings())}
    needed = [str(each) for each in kit_needs(bundle) if canonicalize_name(each.name) not in bundled]
    pins = {name: version.public for name, version in image.versions.items()}
    key = {"python": str(python), "pins": pins, "needed": needed}
    made = folder / _MADE
    if not (made.is_file() and json.loads(made.read_text(encoding="utf-8")) == key):
        _clear(folder)
        write_json(made, {})
        _install(folder, python, [*needed, KERNEL], pins)
        write_json(made, key)
    return Environment("image", python, (site_of(folder),), notes=tuple(_notes(folder, image)))


def _clear(folder: Path) -> None:
    """Remove an environment of another image, or one that was not finished; nothing else."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _MADE).is_file():
        raise ArtifactError(
            "something else is there", where=folder, cure="choose another --images",
            expected="a new or empty folder, or that of another image",
        )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)


def _notes(folder: Path, image: Image) -> list[str]:
    made = site_of(folder).glob("*.dist-info")
    there = {canonicalize_name(path.name.split("-")[0]) for path in made} & image.versions.keys()
    notes = [
        f"{len(there)} of the image's {len(image.versions):,} packages are here: those that the kit needs"
    ]
    own = [name for name, version in image.versions.items() if version.local and name in there]
    return [*notes, f"its own builds are not: {', '.join(own)} come from the index"] if own else notes


def _python_of(version: str) -> Path:
    """An interpreter of this version: this one, one on the PATH, or pyenv's."""
    if version == HERE:
        return Path(sys.executable)
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    on_path = shutil.which(f"python{version}")
    for python in ([Path(on_path)] if on_path else []) + pyenv:
        # pyenv's own python3.12 may be on the PATH and not run.
        if subprocess.run([str(python), "-c", ""], capture_output=True).returncode == 0:
            return python
    raise ConfigError(
        f"the image has Python {version}, and there is none here", where="--environment image",
        cure=f"install Python {version}, or rehearse with --environment this",
    )  # fmt: skip


def _install(folder: Path, python: Path, needed: Sequence[str], pins: Mapping[str, str]) -> None:
    say(f"installing the image's versions of {len(needed)} packages and what they need")
    environment = plain_environment()
    subprocess.run(
        [str(python), "-m", "venv", "--symlinks", str(folder)],
        check=True,
        capture_output=True,
        env=environment,
    )
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
    command = ["pip", "install", "--quiet", "--constraint", str(constraints), *needed]
    done = subprocess.run(
        [str(folder / "bin" / "python"), "-m", *command], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise ConfigError(
            "\n  ".join(["pip does not find the image's versions:", *reasons_of(done.stdout + done.stderr)]),
            where="--environment image", cure="check the connection, or rehearse with --environment this",
        )  # fmt: skip


def known(image: Image | None) -> Image:
    """The image; raise ``ConfigError`` if none is given."""
    if image is None:
        raise ConfigError(
            "the image is not known", where="--environment image", expected="--image FREEZE.txt",
            cure="run `pip freeze > freeze.txt` in a notebook of the image",
        )  # fmt: skip
    return image
