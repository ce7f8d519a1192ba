"""Checks that run before every training."""

from __future__ import annotations

from pathlib import Path

from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.processes import is_first
from training.loop.run_folder import Run


def require_there(path: Path) -> None:
    """Raise ``InputError`` unless ``path`` is a file."""
    if not path.is_file():
        raise InputError("no such file", where=path, cure="check the spelling of the path")


def require_own(run: Run, dry: bool) -> None:
    """Refuse the folder of another run; a dry run writes nothing, and processes may race with the first."""
    if is_first() and not dry:
        run.require_own()
