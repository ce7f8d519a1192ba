"""Rows with title and text: Parquet (Hugging Face wikimedia/wikipedia), JSON lines, CSV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kaggle_rag.errors import InputError
from kaggle_rag.questions import id_text
from kaggle_rag.retrieval.cleaning import whole
from kaggle_rag.tables import Row, read_rows
from wiki_index.readers.base import Article, Reader

_COLUMNS = ("id", "title", "text")


class Numbered(NamedTuple):
    number: int
    row: Row


class Table(Reader):
    """A ``.parquet``, ``.csv`` or ``.jsonl`` file."""

    ending: str | None = None

    def records(self) -> Iterator[Numbered]:
        for number, row in enumerate(read_rows(self.path, _COLUMNS, self.ending), 1):
            if number == 1 and not {"title", "text"} <= set(row):
                row = next(iter(read_rows(self.path, ending=self.ending)))  # all columns, for the message
            yield Numbered(number, row)

    def article(self, record: Numbered) -> Article:
        row = record.row
        for name in ("title", "text"):
            if name not in row:
                raise InputError(
                    f"column {name!r} is missing",
                    where=f"{self.path}, row {record.number}",
                    expected="columns title and text; id may be there",
                    cure="columns found: " + ", ".join(map(str, row)),
                )
            if row[name] is not None and not isinstance(row[name], str):
                raise InputError(
                    f"column {name!r} holds a {type(row[name]).__name__}",
                    where=f"{self.path}, row {record.number}",
                    expected="text",
                    cure="convert the column to strings",
                )
        return Article(whole(id_text(row.get("id"))), whole(row["title"] or ""), row["text"] or "")

    def source(self, record: Numbered) -> str:
        return str(record.row.get("text") or "")


class JsonLines(Table):
    """JSON lines in a file that is named ``.json``."""

    ending = ".jsonl"
