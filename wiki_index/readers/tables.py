"""Rows with title and text: Parquet (Hugging Face wikimedia/wikipedia), JSON lines, CSV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kaggle_rag.data.cells import text_of
from kaggle_rag.data.columns import require_columns
from kaggle_rag.data.questions import id_text
from kaggle_rag.data.tables import Row, column_names, read_rows, unfit_columns
from kaggle_rag.data.watch import Watch
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.text.cleaning import whole
from wiki_index.readers.base import Article, Reader

_COLUMNS = ("id", "title", "text")
_NEEDED = _COLUMNS[1:]
_EXPECTED = "columns title and text; id is optional"


class Numbered(NamedTuple):
    number: int
    row: Row


class Table(Reader):
    """A ``.parquet``, ``.csv`` or ``.jsonl`` file; cells become text by `kaggle_rag.data.cells`."""

    ending: str | None = None

    def records(self) -> Iterator[Numbered]:
        rows = read_rows(self.path, _COLUMNS, self.ending, Watch(share=self.read_to))
        for number, row in enumerate(rows, 1):
            yield Numbered(number, row)

    def article(self, record: Numbered) -> Article:
        row, where = record.row, f"{self.path}, row {record.number}"
        require_columns(row, _NEEDED, where, _EXPECTED)
        title, text = (text_of(row[name], f"{where}, column {name}") or "" for name in _NEEDED)
        return Article(whole(id_text(row.get("id"), f"{where}, column id")), whole(title), text)

    def source(self, record: Numbered) -> str:
        text = record.row.get("text") or ""
        return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


class JsonLines(Table):
    """JSON lines in a file named ``.json``."""

    ending = ".jsonl"


def missing_columns(path: Path, ending: str | None) -> InputError | None:
    """Why a table cannot hold articles: a column is missing or cannot hold text; ``None`` if it can.

    Raises
    ------
    InputError : the table cannot be read at all.
    """
    names = column_names(path, ending)
    try:
        # An empty table of JSON lines has no columns to check.
        require_columns(names, _NEEDED if names else (), path, _EXPECTED)
        unfit_columns(path, _NEEDED, ending)
    except InputError as error:
        return error
    return None
