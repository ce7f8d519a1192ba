"""A folder of ``.txt`` files, one article each."""

from __future__ import annotations

from collections.abc import Iterator

from kaggle_rag.errors import InputError
from wiki_index.readers.base import Article, Reader


class TextFile(Reader):
    """One article, named by its path."""

    def records(self) -> Iterator[str]:
        try:
            yield self.path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(
                f"not UTF-8 (byte 0x{error.object[error.start]:02x} at {error.start})",
                where=self.path,
                cure=f"convert it: iconv -f LATIN1 -t UTF-8 '{self.path.name}' > new.txt",
            ) from error

    def article(self, record: str) -> Article:
        name = self.path.relative_to(self.root).with_suffix("").as_posix()
        return Article(name, self.path.stem.replace("_", " "), record)

    def source(self, record: str) -> str:
        return record
