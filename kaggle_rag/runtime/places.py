"""Paths and names of models in settings: one place that defines what they are relative to.

Paths in a settings file are relative to the file, those on a command line to the current folder. Every
key that holds a path is listed by a pattern such as ``rankers.*.options.base``, and handled here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def plain(name: str) -> str:
    """A path or model name as intended: ``~`` is the home folder, a trailing slash means nothing.

    >>> plain("BAAI/bge-small-en-v1.5/")
    'BAAI/bge-small-en-v1.5'
    """
    full = str(Path(name).expanduser()) if name.startswith("~") else name
    return full.rstrip("/") or full


def beside(path: str, folder: Path) -> str:
    """A path of a settings file in ``folder``; absolute ones and those in the home folder are unchanged."""
    return str(folder / plain(path))


def model_beside(name: str, folder: Path) -> str:
    """A model of a settings file: a path if it exists, else a name to look up."""
    path = folder / plain(name)
    return str(path) if path.exists() else plain(name)


def at(values: Any, patterns: Sequence[str], change: Callable[[str], str]) -> None:
    """Change, in place, the texts that the patterns lead to; ``*`` stands for every item or key.

    Missing values, and those that are not text, are left to the settings model.
    """
    for pattern in patterns:
        _at(values, pattern.split("."), change)


def _at(values: Any, parts: list[str], change: Callable[[str], str]) -> None:
    first, *rest = parts
    if first == "*":
        keys: list[Any] = (
            list(values) if isinstance(values, dict) else [*range(len(values))] if _is_list(values) else []
        )
    else:
        keys = [first] if isinstance(values, dict) and first in values else []
    for key in keys:
        if rest:
            _at(values[key], rest, change)
        elif isinstance(values[key], str):
            values[key] = change(values[key])
        elif _is_list(values[key]):
            values[key] = [change(each) if isinstance(each, str) else each for each in values[key]]


def _is_list(values: Any) -> bool:
    return isinstance(values, list)
