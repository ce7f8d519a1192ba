"""One way to read the three table formats people use: CSV, Parquet and JSON lines, streamed.

CSV and JSON lines may be compressed (``.csv.gz``, ``.jsonl.bz2``), and have every encoding and every
line end that `kaggle_rag.data.texts` reads.

Every format yields the same thing: rows as dictionaries, in file order, a few at a time in memory.
CSV cells are text and nothing else (``NA``, ``None`` and ``007`` are options and ids, not missing
values and numbers); Parquet and JSON lines keep their types. Cells wanted as text are converted by the
one rule of `kaggle_rag.data.cells`, or refused. Two columns with the same name are refused in every
format.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kaggle_rag.data.cells import shortest
from kaggle_rag.data.columns import refuse_repeated, require_columns
from kaggle_rag.data.compressed import COMPRESSED, inner_name
from kaggle_rag.data.csv_tables import csv_columns, csv_rows
from kaggle_rag.data.texts import text_lines
from kaggle_rag.data.watch import SILENT, Watch
from kaggle_rag.runtime.errors import InputError

Row = dict[str, Any]
Reader = Callable[[Path, Sequence[str] | None, Watch], Iterator[Row]]

_BATCH = 256


def read_rows(
    path: str | Path,
    columns: Sequence[str] | None = None,
    ending: str | None = None,
    watch: Watch = SILENT,
) -> Iterator[Row]:
    """Yield the rows of a ``.csv``, ``.parquet`` or ``.jsonl`` file as dictionaries.

    Parameters
    ----------
    path : the file; its ending determines the format.
    columns : of a Parquet file, read only those of these columns that exist.
    ending : read the file as if its name ended in this.
    watch : what is told of the progress, and of CSV rows that do not fit the header.

    Raises
    ------
    InputError : no such file, an unknown ending, not UTF-8, empty, or damaged.
    """
    path, reader = _reader_of(Path(path), ending)
    return reader(path, columns, watch)


def rows_with(path: str | Path, columns: Sequence[str], expected: str) -> list[Row]:
    """All rows of a file that has some, and these columns; ``expected`` says what it should hold, in words.

    Raises
    ------
    InputError : there are no rows, or not these columns; what `read_rows` raises.
    """
    rows = list(read_rows(path))
    if not rows:
        raise InputError("the file has a header but no rows", where=path, expected=expected)
    require_columns(rows[0], columns, path, expected)
    return rows


def names_a_table(name: str | Path) -> bool:
    """Whether a file of this name would be read as a table, such as ``scores.csv.gz``."""
    return Path(inner_name(Path(name))).suffix in READERS


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
    if reader is csv_rows:
        return csv_columns(path)
    return [str(name) for name in next(reader(path, None, SILENT), {})]


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


def _jsonl(path: Path, columns: Sequence[str] | None, watch: Watch) -> Iterator[Row]:
    for number, line in enumerate(text_lines(path, watch.share), 1):
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


def _parquet(path: Path, columns: Sequence[str] | None, watch: Watch) -> Iterator[Row]:
    with _parquet_file(path) as file:
        names = [n for n in file.schema_arrow.names if columns is None or n in columns]
        first = 1
        for batch in _batches(path, file, names):
            lists = [
                _values(batch.column(n), f"{path}, rows from {first:,}, column {name}")
                for n, name in enumerate(batch.schema.names)
            ]
            watch.share((first - 1) / max(file.metadata.num_rows, 1))
            yield from (dict(zip(names, cells)) for cells in zip(*lists))
            first += batch.num_rows


def _parquet_file(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    refuse_repeated(path, file.schema_arrow.names)
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


READERS: dict[str, Reader] = {".csv": csv_rows, ".parquet": _parquet, ".jsonl": _jsonl}
