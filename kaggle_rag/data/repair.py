"""Rows that are no questions, answered by what can be read of them: no bad row costs a submission."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kaggle_rag.data.cells import text_of
from kaggle_rag.data.questions import Questions, is_visible, option_letters, truth_of
from kaggle_rag.data.tables import Row, column_names, read_rows
from kaggle_rag.data.watch import Watch
from kaggle_rag.runtime.errors import InputError

# What stands for a prompt or an option that cannot be read.
_UNREADABLE = "?"


def read_repaired(path: Path, on_fault: Callable[[InputError], None]) -> Questions:
    """`Questions.read`, but a row that is no question is repaired, and its fault handed to ``on_fault``.

    A prompt that is empty or unreadable becomes ``?``, and so do options where fewer than two can be read:
    the row keeps its id and all of its letters. Other cells that cannot be read count as empty; so do those
    that a row of a CSV lacks, and cells beyond its header are left out, where ``id`` is its first column.

    Raises
    ------
    InputError : a fault of the whole table: its format, its columns, or an id that is empty or repeated.
    """
    rows, told = _rows(path, on_fault)
    if not rows:
        return Questions.read(path)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    letters = option_letters(columns, str(path))
    try:
        return Questions.from_rows(rows, str(path))
    except InputError:
        repaired = [
            _repaired(
                dict.fromkeys(columns) | row, letters, f"{path}, row {number}",
                on_fault if number not in told else lambda fault: None,
            )
            for number, row in enumerate(rows, 1)
        ]
    return Questions.from_rows(repaired, str(path))


def _rows(path: Path, on_fault: Callable[[InputError], None]) -> tuple[list[Row], set[int]]:
    """The rows, and the numbers of those whose fault was told already: they did not fit the header."""
    rows: list[Row] = []
    told: set[int] = set()

    def note(fault: InputError) -> None:
        # Cells to the right of what is wrong are those of other columns: an id among them would be another's.
        if column_names(path)[0] != "id":
            raise fault
        if len(rows) + 1 not in told:
            on_fault(fault)
        told.add(len(rows) + 1)

    for row in read_rows(path, watch=Watch(fault=note)):
        rows.append(row)
    return rows, told


def _repaired(row: Row, letters: str, where: str, on_fault: Callable[[InputError], None]) -> Row:
    try:
        Questions.from_rows([row], where)
        return row
    except InputError as fault:
        readable = {name: _text(value, name) for name, value in row.items()}
        # A fault of the id is not mended: the table says so again. It counts as row 1 here, after the place.
        place = str(fault.where).removeprefix(where).removeprefix(", row 1")
        on_fault(InputError(fault.what, where=f"{where}{place}"))
    if sum(readable[letter] is not None for letter in letters) < 2:
        readable |= {letter: readable[letter] or _UNREADABLE for letter in letters}
    kept = {name: readable.get(name) for name in ("prompt", *letters, "context")}
    return {**kept, "id": row.get("id"), "prompt": kept["prompt"] or _UNREADABLE, **_kind(row, where)}


def _kind(row: Row, where: str) -> Row:
    """The row's ``is_question``, where it can be read."""
    try:
        return {"is_question": truth_of(row, where)}
    except InputError:
        return {}


def _text(value: Any, column: str) -> str | None:
    try:
        text: str | None = text_of(value, column)
    except InputError:
        return None
    return text if text and is_visible(text) else None


def shown(faults: Sequence[InputError], most: int = 5) -> str:
    """The first faults, a line each."""
    lines = [str(fault).splitlines()[0] for fault in faults[:most]]
    more = [f"and {len(faults) - most:,} more rows"] if len(faults) > most else []
    return "\n".join([*lines, *more])
