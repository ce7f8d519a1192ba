"""A folder of ``.txt`` files, one article each."""

from __future__ import annotations

from collections.abc import Iterator

from kaggle_rag.tables import text_lines
from wiki_index.readers.base import Article, Reader


class TextFile(Reader):
    """One article, named by its path."""

    def records(self) -> Iterator[str]:
        yield "".join(text_lines(self.path))

    def article(self, record: str) -> Article:
        name = self.path.relative_to(self.root).with_suffix("").as_posix()
        return Article(name, self.path.stem.replace("_", " "), record)

    def source(self, record: str) -> str:
        return record
