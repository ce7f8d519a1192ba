"""A corpus: the files that the kit reads, and their articles as one stream."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kaggle_rag.runtime.console import progress
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.files import sha256
from kaggle_rag.runtime.words import counted
from wiki_index.readers import ENDINGS, READERS, Article, Reader, Skip, format_of, why_no_articles
from wiki_index.readers.folders import ZIM_PART, gaps, refuse_twice, require_all_parts, visible, zim_parts
from wiki_index.readers.zim import Zim

__all__ = ["Article", "Corpus", "Page", "Skip"]

# Size in bytes from which computing a corpus's checksum shows a progress bar.
_SHOWN = 1 << 30
_ENDINGS = ", ".join(ending for ending in ENDINGS if ending)
_SHOWN_FAULTS = 3


class Page(NamedTuple):
    """A record of the corpus: its number, and the reader that turns it into an article."""

    number: int
    reader: Reader
    record: Any

    def article(self) -> Article | Skip:
        """The article; its id, where the source has none, is the record's number."""
        article = self.reader.article(self.record)
        if isinstance(article, Article) and not article.id:
            return article._replace(id=str(self.number))
        return article


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The files of a corpus, in name order (``part2`` before ``part10``).

    Attributes
    ----------
    aside : files next to the articles that are not read: texts next to tables and dumps, files of other
        formats, and those that ``skip_others`` skips. Hidden files, and what archivers and notebooks
        leave behind (``__MACOSX``, ``._*``, ``.ipynb_checkpoints``), are not listed.
    gaps : files that seem to be missing among numbered ones (not among texts, whose names are free).
    """

    root: Path
    files: tuple[Path, ...]
    aside: tuple[Path, ...] = ()
    gaps: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: str | Path, *, skip_others: bool = False) -> Corpus:
        """Find the corpus files at ``path``: one file, or a folder of files of any format.

        Parameters
        ----------
        skip_others : skip tables of a folder that lack columns title and text.

        Raises
        ------
        InputError : nothing there, nothing the kit reads, a table without title and text, a file that
            appears twice, or a missing part of a split corpus.
        """
        root = Path(path)
        if parts := zim_parts(root) if not root.is_dir() else []:
            if root.is_file() and root not in parts:
                refuse_twice([root, *parts])
            require_all_parts(parts)
            return cls(root.parent, tuple(parts))
        if not root.exists():
            raise InputError("no such corpus", where=root, cure="check the spelling of the path")
        if root.is_file():
            if fault := why_no_articles(root, _require_format(root)):
                raise fault
            return cls(root.parent, (root,))
        return cls._of_folder(root, skip_others)

    @classmethod
    def _of_folder(cls, root: Path, skip_others: bool) -> Corpus:
        formats = {file: format_of(file) for file in visible(root)}
        # Next to article files, text files are a read-me or the index of a dump.
        texts = [file for file, name in formats.items() if name == "text"]
        others = [file for file, name in formats.items() if name not in (None, "text")]
        files = others or texts
        if not files:
            raise InputError(
                "the folder holds no corpus",
                where=root,
                expected=f"files ending in {_ENDINGS} (texts also in .gz or .bz2), or WikiExtractor's",
                cure="pass the folder that holds the articles; hidden files are not read",
            )
        # Report everything that can be checked before the first article is split.
        refuse_twice(files)
        require_all_parts(files)
        faults = {file: fault for file in files if (fault := why_no_articles(file, formats[file] or ""))}
        if faults and (not skip_others or len(faults) == len(files)):
            raise _without_articles(root, faults, len(files))
        usable = {file: None for file in files if file not in faults}
        aside = tuple(file for file in formats if file not in usable)
        return cls(root, tuple(usable), aside, tuple(gaps(tuple(usable))) if others else ())

    @property
    def path(self) -> Path:
        """The path that the user passed: the only file, or the folder."""
        return self.files[0] if self.files[0].parent == self.root and len(self.files) == 1 else self.root

    def fingerprint(self) -> dict[str, Any]:
        """Files, bytes and SHA-256 of the content; for a folder, the hash covers names and contents."""
        # A dump takes minutes; a small corpus shows no bar.
        quiet = self.size < _SHOWN
        with progress(self.size, "read", "B", unit_scale=True, leave=False, disable=quiet) as bar:
            sums = [(p.relative_to(self.root).as_posix(), sha256(p, bar.update)) for p in self.files]
        total = sums[0][1] if len(sums) == 1 else hashlib.sha256(repr(sums).encode()).hexdigest()
        return {
            "files": len(sums),
            "bytes": self.size,
            "sha256": total,
        }

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.files)

    def pages(self, on_bytes: Callable[[int], object] | None = None) -> Iterator[Page]:
        """Stream the records of all files in order; ``on_bytes`` receives the number of bytes read."""
        number = 0
        for path in self.files:
            size, reported = path.stat().st_size, 0
            if ZIM_PART.fullmatch(path.suffix) and path != zim_parts(path)[0]:
                # Already read with the first part of its archive.
                if on_bytes:
                    on_bytes(size)
                continue
            reader = self._reader(path)
            for record in reader.records():
                yield Page(number, reader, record)
                number += 1
                if on_bytes and (now := int(size * reader.share)) > reported:
                    on_bytes(now - reported)
                    reported = now
            if on_bytes:
                on_bytes(size - reported)

    def require_readable(self) -> None:
        """Raise ``InputError`` if the first article cannot be read; a ZIM is checked later, as a whole."""
        if not isinstance(self._reader(self.files[0]), Zim):
            next(self.articles(), None)

    def _reader(self, path: Path) -> Reader:
        return READERS[_require_format(path)](path, self.root)

    def articles(self) -> Iterator[Article]:
        """Stream the articles in order, without other pages."""
        for page in self.pages():
            if isinstance(article := page.article(), Article):
                yield article


def _require_format(path: Path) -> str:
    if name := format_of(path):
        return name
    if path.stat().st_size == 0:
        raise InputError("the file is empty", where=path, expected="articles", cure="fetch the file again")
    raise InputError(
        "not a corpus that the kit can read",
        where=path,
        expected=f"a file ending in {_ENDINGS} (texts also in .gz or .bz2): a .xml file with <mediawiki>, "
        "a .json file of CirrusSearch or with title and text in each line, a file of WikiExtractor",
        cure="pass a corpus, or convert the file; if it should be one, it may be truncated: fetch it again",
    )


def _without_articles(root: Path, faults: dict[Path, InputError], files: int) -> InputError:
    """One error for all tables of a folder that hold no articles; the first file's where none does."""
    first = next(iter(faults.values()))
    if len(faults) == files:
        return first
    names = [f"{file.relative_to(root)} ({fault.what})" for file, fault in faults.items()]
    more = f" and {len(names) - _SHOWN_FAULTS} more" if len(names) > _SHOWN_FAULTS else ""
    return InputError(
        f"{len(faults)} of {counted(files, 'file holds', 'files hold')} no articles: "
        + "; ".join(names[:_SHOWN_FAULTS]) + more,
        where=root,
        expected=first.expected,
        cure="add --skip-others to skip them, or move them out of the folder",
    )
