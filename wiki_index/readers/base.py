"""What every reader produces: articles, or pages that were left out and why."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Article(NamedTuple):
    id: str
    title: str
    text: str
    is_rendered: bool = False
    """The text is what the page shows, without any markup or entities left to resolve."""
    left_out: Mapping[str, int] = {}
    """Counts of what was left out in reading, by name: ``{{unité}}``, ``<gallery>``."""


class Skip(NamedTuple):
    """A page that is not an article: a redirect, a disambiguation, a page of another namespace."""

    reason: str


class Reader(ABC):
    """One file of a corpus, record by record, so that memory does not grow with the file.

    Reading is cheap and converting a record to an article is not: a resumed build, and a check of
    every tenth article, skip records without converting them.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self.root = path, root
        self.share = 0.0
        """The share of the file that has been read, from 0 to 1."""

    def read_to(self, share: float) -> None:
        """Note how much of the file has been read."""
        self.share = share

    @abstractmethod
    def records(self) -> Iterator[Any]:
        """The file's records in order; raise ``InputError`` if it is truncated or damaged."""

    @abstractmethod
    def article(self, record: Any) -> Article | Skip:
        """Turn a record into an article; an empty id means that the source has none."""

    @abstractmethod
    def source(self, record: Any) -> str:
        """The prose of the record as the source has it, processed as little as possible.

        The linter compares the article with it, so it shares no code with ``article``.
        """
