"""One way to read the three table formats people use: CSV, Parquet and JSON lines, streamed.

CSV and JSON lines may be compressed (``.csv.gz``, ``.jsonl.bz2``), and have every encoding and every
line end that `kaggle_rag.data.texts` reads.

Every format yields the same thing: rows as dictionaries, in file order, a few at a time in memory.
CSV cells are text and nothing else (``NA``, ``None`` and ``007`` are options and ids, not missing
values and numbers); Parquet and JSON lines keep their types. Cells wanted as text are converted by the
one rule of `kaggle_rag.data.cells`, or refused. Two columns with the same name are refused in every
format.

From spreadsheets: a first line ``sep=;`` names the delimiter; columns without a name and rows without a
cell are skipped if they are empty (a first column without a name is the index of pandas).
"""

from __future__ import annotations

import csv
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kaggle_rag.data.cells import shortest
from kaggle_rag.data.compressed import COMPRESSED, inner_name
from kaggle_rag.data.texts import text_lines
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.words import counted

Row = dict[str, Any]
Reader = Callable[[Path, Sequence[str] | None], Iterator[Row]]

_BATCH = 256
_SEP_LINE = re.compile(r"\"?sep=(.)\"?[,;\t]*\s*", re.IGNORECASE)
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_rows(
    path: str | Path, columns: Sequence[str] | None = None, ending: str | None = None
) -> Iterator[Row]:
    """Yield the rows of a ``.csv``, ``.parquet`` or ``.jsonl`` file as dictionaries.

    Parameters
    ----------
    path : the file; its ending determines the format.
    columns : of a Parquet file, read only those of these columns that exist.
    ending : read the file as if its name ended in this.

    Raises
    ------
    InputError : no such file, an unknown ending, not UTF-8, empty, or damaged.
    """
    path, reader = _reader_of(Path(path), ending)
    return reader(path, columns)


def _reader_of(path: Path, ending: str | None) -> tuple[Path, Reader]:
    ending = ending or Path(inner_name(path)).suffix
    reader = READERS.get(ending)
    if path.is_dir():
        _require_file(path)
    if reader is None or (ending == ".parquet" and path.suffix.lower() in COMPRESSED):
        raise InputError(
            f"cannot tell the format from the ending {path.suffix!r}",
            where=path,
            expected=f"one of {', '.join(READERS)}; text formats also with {' or '.join(COMPRESSED)}",
            cure="rename or convert the file",
        )
    _require_file(path)
    if path.stat().st_size == 0:
        raise InputError("the file is empty", where=path, expected="a header and at least one row")
    return path, reader


def _require_file(path: Path) -> None:
    if path.is_file():
        return
    if path.is_dir():
        raise InputError(
            "this is a folder, not a table", where=path, expected="a file", cure="pass a file inside it"
        )
    if path.is_symlink():
        raise InputError(
            f"a link to {str(path.readlink())!r}, where no file is", where=path, cure="pass the file itself"
        )
    if path.exists():
        raise InputError(
            "this is a pipe or a device, and a table is read more than once", where=path,
            expected="a file", cure="write it to a file first",
        )  # fmt: skip
    raise InputError("no such file", where=path, cure="check the spelling of the path")


def column_names(path: Path, ending: str | None = None) -> list[str]:
    """The columns of a table, by its schema, its header or its first row.

    Raises
    ------
    InputError : as `read_rows` does.
    """
    path, reader = _reader_of(path, ending)
    if reader is _parquet:
        with _parquet_file(path) as file:
            return [str(name) for name in file.schema_arrow.names]
    if reader is _csv:
        _, _, header = _csv_opened(path)
        return [name for name in header if name]
    return [str(name) for name in next(reader(path, None), {})]


def unfit_columns(path: Path, columns: Sequence[str], ending: str | None = None) -> None:
    """Raise ``InputError`` for a column of a Parquet file whose type has no text, before a row is read.

    The other formats have no types: there `kaggle_rag.data.cells.text_of` refuses the cell.
    """
    path, reader = _reader_of(path, ending)
    if reader is not _parquet:
        return
    with _parquet_file(path) as file:
        schema = file.schema_arrow
    for name in columns:
        kind = schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        of_text = not pa.types.is_nested(kind) or (is_list and not pa.types.is_nested(kind.value_type))
        if not of_text:
            raise InputError(
                f"column {name!r} holds {kind}",
                where=path,
                expected="text, or what becomes text by one rule (numbers, dates, lists of texts)",
                cure="rewrite the file with text in that column",
            )


def _csv(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    reader, before, header = _csv_opened(path)
    nameless = [position for position, name in enumerate(header) if not name]
    try:
        for cells in reader:
            if not any(cells):
                continue
            where = f"{path}, line {before + reader.line_num}"
            if len(cells) < len(header) or any(cells[len(header) :]):
                raise InputError(
                    f"the row has {counted(len(cells), 'cell')}",
                    where=where,
                    expected=f"{counted(len(header), 'cell')}: {', '.join(header)}",
                    cure="put cells that hold commas or line breaks in double quotes",
                )
            _refuse_nameless(cells, nameless, where)
            row = dict(zip(header, cells))
            row.pop("", None)
            yield row
    except csv.Error as error:
        raise _malformed(path, before + reader.line_num, error) from error


def _csv_opened(path: Path) -> tuple[Any, int, list[str]]:
    """A reader of the rows after the header, how many lines it does not count, and the header."""
    lines = text_lines(path)
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
    _refuse_twice(path, [name for name in header if name])


def _refuse_twice(path: Path, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = min(name for name in names if names.count(name) > 1)
        raise InputError(
            f"column {twice!r} appears twice in the table",
            where=path,
            expected="every column once",
            cure="rename or drop one of the two",
        )


def _refuse_nameless(cells: Sequence[str], positions: Sequence[int], where: str) -> None:
    """A column without a name is a spreadsheet's empty one or, if it is the first, the index of pandas."""
    for position in positions:
        if position and cells[position].strip():
            raise InputError(
                f"column {position + 1} has no name, but holds {cells[position][:40]!r}",
                where=where,
                cure="give the column a name in the header, or empty it",
            )


def _jsonl(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
            # Keys are checked one by one, which takes twice the time, only if there may be more of them.
            if isinstance(row, dict) and line.count('":') != len(row):
                json.loads(line, object_pairs_hook=_object)
        except _DuplicateKey as error:
            raise InputError(
                f"the key {error.args[0]!r} appears twice in one object",
                where=where,
                cure="rename or drop one of the two",
            ) from None
        except (ValueError, RecursionError) as error:
            # Every line is the first one to the parser.
            raise InputError(
                f"not JSON: {str(error).replace('line 1 ', '')}",
                where=where,
                expected="one object per line",
                cure="fix the line, or fetch the file again if it ends there",
            ) from error
        if not isinstance(row, dict):
            raise InputError(
                f"the line holds a {type(row).__name__}",
                where=where,
                expected='one object per line, {"column": value, ...}',
                cure=f"convert it: jq -c '.[]' '{path.name}' > new.jsonl" if isinstance(row, list) else "",
            )
        yield row


class _DuplicateKey(Exception):
    """A key that an object has twice; json silently takes the last of the two values."""


def _object(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKey(min(name for name in names if names.count(name) > 1))
    return row


def _parquet(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    with _parquet_file(path) as file:
        names = [n for n in file.schema_arrow.names if columns is None or n in columns]
        first = 1
        for batch in _batches(path, file, names):
            lists = [
                _values(batch.column(n), f"{path}, rows from {first:,}, column {name}")
                for n, name in enumerate(batch.schema.names)
            ]
            yield from (dict(zip(names, cells)) for cells in zip(*lists))
            first += batch.num_rows


def _parquet_file(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    _refuse_twice(path, file.schema_arrow.names)
    return file


def _batches(path: Path, file: pq.ParquetFile, names: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from file.iter_batches(batch_size=_BATCH, columns=names)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _values(column: pa.Array, where: str) -> list[Any]:
    """A column's cells as Python objects; small floats by their own shortest text."""
    kind = column.type
    try:
        if pa.types.is_timestamp(kind) and kind.unit == "ns":
            # Python's own times stop at microseconds.
            column = column.cast(pa.timestamp("us", kind.tz), safe=False)
        cells = column.to_pylist()
    except (UnicodeDecodeError, pa.ArrowException, ValueError) as error:
        raise InputError(
            f"cells that cannot be read ({str(error).splitlines()[0]})",
            where=where,
            cure="rewrite the file, with text in UTF-8",
        ) from error
    if pa.types.is_float32(kind):
        return [shortest(cell, np.float32) for cell in cells]
    return [shortest(cell, np.float16) for cell in cells] if pa.types.is_float16(kind) else list(cells)


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"this Parquet file cannot be read ({str(error).splitlines()[0]})",
        where=path,
        cure="the download or copy may be truncated or damaged: fetch the file again",
    )


READERS: dict[str, Reader] = {".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl}
