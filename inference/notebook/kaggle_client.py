"""Hand a bundle over to Kaggle by its official client, where that is installed."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from inference.notebook.metadata import Names
from inference.notebook.split import folder_of
from kaggle_rag.runtime.console import duration
from kaggle_rag.runtime.errors import ConfigError, InputError

# Seconds between two looks at a dataset that Kaggle unpacks, and how many of them.
_PAUSE, _LOOKS = 20.0, 180


def require_client() -> None:
    """Raise ``ConfigError`` unless Kaggle's client is installed and logged in."""
    if shutil.which("kaggle") is None:
        raise ConfigError(
            "Kaggle's client is not installed", where="--push",
            cure="pip install kaggle, or leave out --push and upload the folder by hand",
        )  # fmt: skip
    _kaggle(
        "datasets", "list", "--mine",
        cure="log in: put your API token where the client looks for it (kaggle --help)",
    )  # fmt: skip


def push(out: Path, datasets: Sequence[Names]) -> None:
    """Upload each dataset of a bundle, wait until it is ready, and push the notebook.

    Raises
    ------
    InputError : Kaggle refuses it; the folders stay as they are.
    """
    for number, names in enumerate(datasets, 1):
        _upload(folder_of(out, number), names, out / "notebook")
    _kaggle("kernels", "push", "-p", str(out / "notebook"))


def _upload(folder: Path, names: Names, notebook: Path) -> None:
    """Upload a dataset, as a new one or a new version; return when it is ready."""
    upload = ("-p", str(folder), "--dir-mode", "zip")
    mine = _kaggle("datasets", "list", "--mine", "--csv", "--search", names.slug)
    if any(line.split(",")[0] == names.id for line in mine.splitlines()):
        _kaggle("datasets", "version", *upload, "-m", "python -m inference bundle")
    else:
        _kaggle("datasets", "create", *upload)
    for _ in range(_LOOKS):
        if _kaggle("datasets", "status", names.id).split()[-1:] == ["ready"]:
            return
        time.sleep(_PAUSE)
    raise InputError(
        f"the dataset {names.id} is uploaded, but not ready after {duration(_LOOKS * _PAUSE)}",
        where="--push", cure=f"look at it on Kaggle, then: kaggle kernels push -p {notebook}",
    )  # fmt: skip


def _kaggle(*arguments: str, cure: str = "see what it says, and push again by hand") -> str:
    """What the client prints; raise ``InputError`` if it fails, which it may also say with exit code 0."""
    done = subprocess.run(["kaggle", *arguments], capture_output=True, text=True)
    said = (done.stdout + done.stderr).strip()
    if done.returncode or " error:" in said:
        last = said.splitlines()[-1:] or ["no message"]
        raise InputError(f"`kaggle {' '.join(arguments[:2])}` failed: {last[0]}", where="--push", cure=cure)
    return done.stdout
