"""A bundle that one dataset cannot hold: further ones take whole files, which the notebook joins by links."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inference.notebook.contents import Part
from inference.notebook.metadata import Names
from kaggle_rag.runtime.errors import LimitError, show_size

MARK = "bundle-part.json"
"""By which the notebook knows a further dataset: ``id`` of the bundle, and ``part``, its number from 2."""


def assigned(parts: Sequence[Part], most: int, reserved: int = 0) -> dict[str, int]:
    """The number of the dataset of each file, from 1; files stay in order, so that a part stays together.

    Parameters
    ----------
    most : bytes of a dataset.
    reserved : bytes of the first that are kept free, such as for wheels.

    Raises
    ------
    LimitError : a single file is larger than a dataset.
    """
    number, left, found = 1, most - reserved, dict[str, int]()
    for part in parts:
        for name, path in part.files.items():
            size = path.stat().st_size
            if size > most:
                raise LimitError(
                    f"one file has {show_size(size)}", where=path,
                    expected=f"at most {show_size(most)}, as a dataset may have",
                    cure="build the index with a smaller --ram, or save the model in shards",
                )  # fmt: skip
            if size > left:
                number, left = number + 1, most
            found[name] = number
            left -= size
    return found


def folder_of(out: Path, number: int) -> Path:
    """Where a dataset of the bundle at ``out`` lies: there, or beside it."""
    return out if number == 1 else out.with_name(f"{out.name}-{number}")


def names_of(names: Names, number: int) -> Names:
    """What a further dataset is called."""
    if number == 1:
        return names
    mark = f" {number}"
    return Names(
        names.owner, f"{names.slug}-{number}", names.title[: 50 - len(mark)] + mark, names.competition
    )


def mark_of(names: Names, number: int) -> dict[str, Any]:
    """What `MARK` holds."""
    return {"kind": "part of a kaggle-rag bundle", "id": names.id, "part": number}
