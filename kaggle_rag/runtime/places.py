"""Paths and names of models in settings: one place that says what they are relative to.

A settings file names files beside itself, a command line those of the current folder. Every key that
holds a path is listed by a pattern such as ``rankers.*.options.base``, and treated here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def plain(name: str) -> str:
    """A path or model name as it is meant: ``~`` is the home folder, a slash at the end says nothing.

    >>> plain("BAAI/bge-small-en-v1.5/")
    'BAAI/bge-small-en-v1.5'
    """
    full = str(Path(name).expanduser()) if name.startswith("~") else name
    return full.rstrip("/") or full


def beside(path: str, folder: Path) -> str:
    """A path of a settings file in ``folder``; absolute ones and those of the home folder stay."""
    return str(folder / plain(path))


def model_beside(name: str, folder: Path) -> str:
    """A model of a settings file: a path where there is one, else a name to be looked up."""
    there = folder / plain(name)
    return str(there) if there.exists() else plain(name)


def at(values: Any, patterns: Sequence[str], change: Callable[[str], str]) -> None:
    """Change, in place, the texts that the patterns lead to; ``*`` stands for every item or key.

    What is not there, or no text, is left for the settings model to judge.
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
