"""CSV as spreadsheets and pandas write it, row by row; a row that does not fit its header is refused.

A first line ``sep=;`` names the delimiter; columns without a name and rows without a cell are skipped if
they are empty (a first column without a name is the index of pandas).
"""

from __future__ import annotations

import csv
import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kaggle_rag.data.columns import refuse_repeated
from kaggle_rag.data.texts import text_lines
from kaggle_rag.data.watch import SILENT, Watch
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.words import counted

_SEP_LINE = re.compile(r"\"?sep=(.)\"?[,;\t]*\s*", re.IGNORECASE)
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def csv_rows(path: Path, columns: Sequence[str] | None, watch: Watch = SILENT) -> Iterator[dict[str, Any]]:
    """Yield the rows as dictionaries of text, whatever ``columns`` are wanted."""
    csv.field_size_limit(sys.maxsize)
    reader, before, header = _opened(path, watch)
    nameless = [position for position, name in enumerate(header) if not name]
    try:
        for cells in reader:
            if not any(cells):
                continue
            where = f"{path}, line {before + reader.line_num}"
            if len(cells) < len(header) or any(cells[len(header) :]):
                watch.fault(_ragged(cells, header, where))
                cells += [""] * (len(header) - len(cells))
            for fault in _nameless(cells, nameless, where):
                watch.fault(fault)
            row = dict(zip(header, cells))
            row.pop("", None)
            yield row
    except csv.Error as error:
        raise _malformed(path, before + reader.line_num, error) from error


def _ragged(cells: Sequence[str], header: Sequence[str], where: str) -> InputError:
    return InputError(
        f"the row has {counted(len(cells), 'cell')}",
        where=where,
        expected=f"{counted(len(header), 'cell')}: {', '.join(header)}",
        cure="put cells that hold commas or line breaks in double quotes",
    )


def csv_columns(path: Path) -> list[str]:
    """The columns that have a name."""
    _, _, header = _opened(path)
    return [name for name in header if name]


def _opened(path: Path, watch: Watch = SILENT) -> tuple[Any, int, list[str]]:
    """A reader of the rows after the header, how many lines it does not count, and the header."""
    lines = text_lines(path, watch.share)
    first = next(lines, "")
    sep_line = _SEP_LINE.fullmatch(first)
    lines = lines if sep_line else itertools.chain([first], lines)
    reader = csv.reader(lines, delimiter=sep_line[1] if sep_line else ",", strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise _malformed(path, reader.line_num, error) from error
    _check_header(path, header)
    return reader, int(sep_line is not None), header


def _malformed(path: Path, line: int, error: csv.Error) -> InputError:
    return InputError(
        f"not a well-formed CSV: {error}",
        where=f"{path}, line {line}",
        cure="look for a double quote that is not closed or not doubled",
    )


def _check_header(path: Path, header: list[str]) -> None:
    if not any(header):
        raise InputError("the first line is empty", where=path, expected="a header row")
    for delimiter, name in _DELIMITERS.items():
        if sum(cell.count(delimiter) for cell in header) >= len(header):
            shown = delimiter if delimiter != "\t" else "TAB"
            raise InputError(
                f"the cells are separated by {name}, not by commas",
                where=f"{path}, line 1",
                expected=f"a header such as {header[0].replace(delimiter, ',')[:80]}",
                cure=f"put a line sep={shown} before the header, or save the file with commas",
            )
    refuse_repeated(path, [name for name in header if name])


def _nameless(cells: Sequence[str], positions: Sequence[int], where: str) -> Iterator[InputError]:
    """A column without a name is a spreadsheet's empty one or, if it is the first, the index of pandas."""
    for position in positions:
        if position and cells[position].strip():
            yield InputError(
                f"column {position + 1} has no name, but holds {cells[position][:40]!r}",
                where=where,
                cure="give the column a name in the header, or empty it",
            )
