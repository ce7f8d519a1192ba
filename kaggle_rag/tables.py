"""One way to read the three table formats people bring: CSV, Parquet and JSON lines, streamed.

CSV and JSON lines may be compressed (``.csv.gz``, ``.jsonl.bz2``).

Every format gives the same thing: rows as dictionaries, in file order, a few at a time in memory.
CSV cells are text and nothing else (``NA``, ``None`` and ``007`` are options and ids, not missing
values and numbers); Parquet and JSON lines keep the types they have.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kaggle_rag.compressed import COMPRESSED, inner_name, opened
from kaggle_rag.errors import InputError

Row = dict[str, Any]

_BATCH = 256
UTF_16 = "UTF-16 text"
_ORDER = {True: "UTF-16BE", False: "UTF-16LE"}
_MAGIC = {
    b"\xff\xfe": UTF_16,
    b"\xfe\xff": UTF_16,
    b"PAR1": "Parquet",
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "a zip archive (or Excel)",
}


def read_rows(
    path: str | Path, columns: Sequence[str] | None = None, ending: str | None = None
) -> Iterator[Row]:
    """Yield the rows of a ``.csv``, ``.parquet`` or ``.jsonl`` file as dictionaries.

    Parameters
    ----------
    path : the file; its ending tells the format.
    columns : of a Parquet file, read only those of these columns that are there.
    ending : read the file as if its name ended so.

    Raises
    ------
    InputError : no such file, an unknown ending, not UTF-8, empty, or damaged.
    """
    path = Path(path)
    ending = ending or Path(inner_name(path)).suffix
    reader = READERS.get(ending)
    if reader is None or (ending == ".parquet" and path.suffix.lower() in COMPRESSED):
        raise InputError(
            f"cannot tell the format from the ending {path.suffix!r}",
            where=path,
            expected=f"one of {', '.join(READERS)}; the texts may end in {' or '.join(COMPRESSED)} too",
            cure="rename or convert the file",
        )
    if not path.is_file():
        raise InputError("no such file", where=path, cure="check the spelling of the path")
    if path.stat().st_size == 0:
        raise InputError("the file is empty", where=path, expected="a header and at least one row")
    return reader(path, columns)


def text_lines(path: Path) -> Iterator[str]:
    """Lines of UTF-8 text with their line ends, without a byte order mark and NUL characters.

    Raises
    ------
    InputError : not UTF-8, or the compression around it is damaged.
    """
    with opened(path) as (file, _):
        _refuse_other_formats(path, file.peek(4)[:4])
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = raw[error.start]
                raise _not_text(path, f"line {number} is not UTF-8 (byte 0x{byte:02x})") from error
            # csv of Python 3.10 refuses NUL, and no text means anything by it.
            yield line.replace("\0", "")


def _refuse_other_formats(path: Path, head: bytes) -> None:
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            if name == UTF_16:
                raise _not_text(path, f"this is {name}, not UTF-8 text", "UTF-16")
            raise InputError(
                f"this is {name}, not the text that the ending {path.suffix} promises",
                where=path,
                cure="rename it, or unpack it first",
            )
    # Latin text in UTF-16 has a NUL in every second byte, with a byte order mark or without.
    if len(head) == 4 and (head[0] == head[2] == 0 or head[1] == head[3] == 0):
        raise _not_text(path, f"this is {UTF_16} without a byte order mark", _ORDER[head[0] == 0])


def _not_text(path: Path, what: str, encoding: str = "LATIN1") -> InputError:
    return InputError(
        what,
        where=path,
        expected="UTF-8",
        cure=f"convert it: iconv -f {encoding} -t UTF-8 {path.name} > new{path.suffix}, "
        "or save it again as 'CSV UTF-8'",
    )


def _csv(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(text_lines(path), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"the row has {len(cells)} cells",
                    where=f"{path}, line {reader.line_num}",
                    expected=f"{len(header)} cells: {', '.join(header)}",
                    cure="put cells that hold commas or line breaks in double quotes",
                )
            yield dict(zip(header, cells))
    except csv.Error as error:
        raise InputError(
            f"not a well-formed CSV: {error}",
            where=f"{path}, line {reader.line_num}",
            cure="look for a double quote that is not closed or not doubled",
        ) from error


def _check_header(path: Path, header: list[str]) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"column {twice[0]!r} stands twice in the header", where=path)
    if not any(header):
        raise InputError("the first line is empty", where=path, expected="a header row")


def _jsonl(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            # Every line is the first one to the parser.
            raise InputError(
                f"not JSON: {str(error).replace('line 1 ', '')}",
                where=f"{path}, line {number}",
                expected="one object a line",
                cure="mend the line, or fetch the file again if it ends there",
            ) from error
        if not isinstance(row, dict):
            raise InputError(
                f"the line holds a {type(row).__name__}",
                where=f"{path}, line {number}",
                expected='one object a line, {"column": value, ...}',
            )
        yield row


def _parquet(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            names = [n for n in file.schema_arrow.names if columns is None or n in columns]
            for batch in file.iter_batches(batch_size=_BATCH, columns=names):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"this Parquet file cannot be read ({str(error).splitlines()[0]})",
            where=path,
            cure="the download or copy may have been cut or damaged: fetch the file again",
        ) from error


READERS = {".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl}
