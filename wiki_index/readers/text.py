"""A folder of ``.txt`` files (also ``.txt.gz``, ``.txt.bz2``), one article each."""

from __future__ import annotations

from collections.abc import Iterator

from kaggle_rag.data.compressed import inner_name
from kaggle_rag.data.texts import text_lines
from wiki_index.readers.base import Article, Reader


class TextFile(Reader):
    """One article, named by its path."""

    def records(self) -> Iterator[str]:
        yield "".join(text_lines(self.path))

    def article(self, record: str) -> Article:
        # Without the compression ending, then without the text ending.
        stem = self.path.name[: len(inner_name(self.path))].rpartition(".")[0]
        name = self.path.relative_to(self.root).with_name(stem).as_posix()
        return Article(name, stem.replace("_", " "), record)

    def source(self, record: str) -> str:
        return record
