"""What every reader gives: articles, or pages that were left out and why."""

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
    """The text is what the page shows: no markup and no entity in it is left to be undone."""
    left_out: Mapping[str, int] = {}
    """How often what was left out in reading, by its name: ``{{unité}}``, ``<gallery>``."""


class Skip(NamedTuple):
    """A page that is no article: a redirect, a disambiguation, a page of another namespace."""

    reason: str


class Reader(ABC):
    """One file of a corpus, record by record, so that memory does not grow with the file.

    Reading is cheap and turning a record into an article is not: a build that goes on where it was
    killed, and a check that takes every tenth article, pass over records without turning them.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self.root = path, root
        self.share = 0.0
        """How much of the file has been read, from 0 to 1."""

    @abstractmethod
    def records(self) -> Iterator[Any]:
        """The file's records in order; raise ``InputError`` where it is cut or damaged."""

    @abstractmethod
    def article(self, record: Any) -> Article | Skip:
        """Turn a record into an article; an empty id means that the source has none."""

    @abstractmethod
    def source(self, record: Any) -> str:
        """The prose of the record as the source has it, read as little as can be.

        The linter holds the article against it; so nothing here shares code with ``article``.
        """
