"""CirrusSearch dumps: a line that names a page, then a line with its fields, and so on.

``text`` is what the wiki showed (with templates expanded), all on one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from kaggle_rag.data.texts import text_lines
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.text.cleaning import whole
from wiki_index.readers.base import Article, Reader, Skip


class CirrusDocument(NamedTuple):
    id: str
    fields: dict[str, Any]


class Cirrus(Reader):
    """A ``…-cirrussearch-content.json.gz`` file."""

    def records(self) -> Iterator[CirrusDocument]:
        name: str | None = None
        number = 0
        for number, line in enumerate(text_lines(self.path, self.read_to), 1):
            if not line.strip():
                continue
            fields = self._object(line, number)
            is_index = isinstance(fields.get("index"), dict) and "title" not in fields
            if is_index == (name is not None):
                fault = "two index lines in a row" if is_index else "a page without its index line"
                raise self._fault(fault, number)
            if is_index:
                name = str(fields["index"].get("_id") or "")
            else:
                yield CirrusDocument(name or str(fields.get("page_id") or ""), fields)
                name = None
        if name is not None:
            raise self._fault(f"the file ends before page {name}", number)

    def _object(self, line: str, number: int) -> dict[str, Any]:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._fault(f"not JSON: {error}", number) from error
        if not isinstance(fields, dict):
            raise self._fault(f"the line holds a {type(fields).__name__}", number)
        return fields

    def _fault(self, what: str, number: int) -> InputError:
        return InputError(
            what,
            where=f"{self.path}, line {number}",
            expected='alternating lines: {"index": {"_id": …}} and {"title": …, "text": …}',
            cure="the download or copy may be truncated: fetch the file again",
        )

    def article(self, record: CirrusDocument) -> Article | Skip:
        fields = record.fields
        if fields.get("namespace", 0) != 0:
            return Skip("namespace")
        if any(_disambiguates(name) for key in ("template", "category") for name in fields.get(key) or ()):
            return Skip("disambiguation")
        return Article(
            whole(record.id), whole(str(fields.get("title") or "")), whole(str(fields.get("text") or "")),
            is_rendered=True,
        )  # fmt: skip

    def source(self, record: CirrusDocument) -> str:
        return str(record.fields.get("text") or "")


def _disambiguates(name: object) -> bool:
    """Whether this is a template or category of disambiguation pages (not of pages that lack one)."""
    words = str(name).lower().removeprefix("template:")
    return words in _TEMPLATES or words.endswith("disambiguation pages")


_TEMPLATES = {"disambiguation", "disambig", "dab", "hndis", "geodis", "human name disambiguation"}
