"""WikiExtractor's text output: files ``AA/wiki_00`` of ``<doc id= url= title=> … </doc>``.

Its JSON output is JSON lines with title and text, also in files without an ending; those are read as
such. The text is escaped for HTML once (``&lt;``), which is WikiExtractor's default.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import NamedTuple

from kaggle_rag.data.texts import text_lines
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.text.cleaning import whole
from wiki_index.readers.base import Article, Reader

# A title may contain quotation marks: it ends where the line does.
_OPENS = re.compile(r"<doc\s+id=\"([^\"]*)\"(?:\s.*?)?\stitle=\"(.*)\"\s*>\s*")
_CLOSES = "</doc>"


class ExtractedDocument(NamedTuple):
    id: str
    title: str
    text: str


class Extracted(Reader):
    """A file of WikiExtractor, plain or compressed; the first line of an article repeats its title."""

    def records(self) -> Iterator[ExtractedDocument]:
        opened: re.Match[str] | None = None
        lines: list[str] = []
        number = 0
        for number, line in enumerate(text_lines(self.path, self.read_to), 1):
            start = _OPENS.fullmatch(line)
            if opened is not None and line.strip() == _CLOSES:
                yield _document(opened, lines)
                opened, lines = None, []
            elif start and opened is not None:
                raise self._fault(f"the document {opened[2]!r} is cut off", number)
            elif start:
                opened = start
            elif opened is not None:
                lines.append(line)
            elif line.strip():
                raise self._fault("a line is outside any document", number)
        if opened is not None:
            raise self._fault(f"the file ends before the document {opened[2]!r} does", number)

    def _fault(self, what: str, line: int) -> InputError:
        return InputError(
            what,
            where=f"{self.path}, line {line}",
            expected='WikiExtractor documents: <doc id="…" url="…" title="…">, its text, </doc>',
            cure="rerun WikiExtractor, or copy its file again: it may be truncated",
        )

    def article(self, record: ExtractedDocument) -> Article:
        return Article(whole(record.id), whole(html.unescape(record.title)), record.text)

    def source(self, record: ExtractedDocument) -> str:
        return record.text


def _document(opened: re.Match[str], lines: list[str]) -> ExtractedDocument:
    if lines and lines[0].strip() == opened[2].strip():
        lines = lines[1:]
    return ExtractedDocument(opened[1], opened[2], "".join(lines).strip("\r\n"))
