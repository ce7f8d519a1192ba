"""Checks that run before every training."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.processes import is_first
from training.loop.run_folder import Run


def require_packages(names: Sequence[str]) -> None:
    """Raise ``ConfigError`` if a package is not installed."""
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            "not installed: " + ", ".join(missing),
            cure=f"pip install {' '.join(missing)}, or install the extra 'train'",
        )


def require_own(run: Run, dry: bool) -> None:
    """Refuse the folder of another run; a dry run writes nothing, and processes may race with the first."""
    if is_first() and not dry:
        run.require_own()


def require_distinct(names: Sequence[str], what: str) -> None:
    """Raise ``ConfigError`` for two of them alike: questions of several tables are told apart by these."""
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            f"two {what} are called {repeated[0]!r}", where="the question files",
            cure="rename one: its questions are told apart by that name",
        )  # fmt: skip
