"""Checks that every training begins with."""

from __future__ import annotations

from pathlib import Path

from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.processes import is_first
from training.loop.run_folder import Run


def require_there(path: Path) -> None:
    """Raise ``InputError`` where no file is."""
    if not path.is_file():
        raise InputError("no such file", where=path, cure="check the spelling of the path")


def require_own(run: Run, dry: bool) -> None:
    """A dry run writes nothing; of several processes the first one may be about to make the folder."""
    if is_first() and not dry:
        run.require_own()
