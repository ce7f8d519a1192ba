"""A corpus: the files of it that the kit reads, and their articles in one stream."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kaggle_rag.artifacts import sha256
from kaggle_rag.errors import InputError
from kaggle_rag.progress import progress
from wiki_index.readers import ENDINGS, READERS, Article, Reader, Skip, format_of

__all__ = ["Article", "Corpus", "Page", "Skip"]

# Bytes from which reading a corpus for its checksum is shown.
_SHOWN = 1 << 30
_DIGITS = re.compile(r"(\d+)")
_SHARD = re.compile(r"(.*-)(\d{3,6})(-of-(\d{3,6}).*)")
_PAGES = re.compile(r"(.*?)\d*(\.xml-p)(\d+)p(\d+)(.*)")


class Page(NamedTuple):
    """A record of the corpus, by its number there, and the reader that makes an article of it."""

    number: int
    reader: Reader
    record: Any

    def article(self) -> Article | Skip:
        """The article; its id, where the source has none, is the record's number."""
        found = self.reader.article(self.record)
        if isinstance(found, Article) and not found.id:
            return found._replace(id=str(self.number))
        return found


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The files of a corpus, in name order (``part2`` before ``part10``)."""

    root: Path
    files: tuple[Path, ...]
    aside: tuple[Path, ...] = ()
    """Text files that stand beside files of articles, and are not read."""

    @classmethod
    def open(cls, path: str | Path) -> Corpus:
        """Find the corpus files at ``path``: one file, or a folder of files of any format.

        Raises
        ------
        InputError : nothing there, nothing the kit reads, or a part of a divided corpus is missing.
        """
        root = Path(path)
        if not root.exists():
            raise InputError("no such corpus", where=root, cure="check the spelling of the path")
        if root.is_file():
            _require_format(root)
            return cls(root.parent, (root,))
        found = [
            (file, format_of(file)) for file in sorted(root.rglob("*"), key=_by_number) if file.is_file()
        ]
        # Beside files of articles, text files are a read-me or the index of a dump.
        texts = tuple(file for file, name in found if name == "text")
        tables = tuple(file for file, name in found if name not in (None, "text"))
        if files := tables or texts:
            _require_all_parts(files)
            return cls(root, files, texts if tables else ())
        raise InputError(
            "the folder holds no corpus",
            where=root,
            expected=f"files ending in {', '.join(ENDINGS)} (texts also in .gz or .bz2)",
        )

    @property
    def path(self) -> Path:
        """What the user named: the only file, or the folder."""
        return self.files[0] if self.files[0].parent == self.root and len(self.files) == 1 else self.root

    def fingerprint(self) -> dict[str, Any]:
        """Files, bytes and SHA-256 of the content; for a folder the sum over names and contents."""
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
        """Stream the records of all files in order; ``on_bytes`` hears of the bytes they stood in."""
        number = 0
        for path in self.files:
            reader = READERS[_require_format(path)](path, self.root)
            size, told = path.stat().st_size, 0
            for record in reader.records():
                yield Page(number, reader, record)
                number += 1
                if on_bytes and (now := int(size * reader.share)) > told:
                    on_bytes(now - told)
                    told = now
            if on_bytes:
                on_bytes(size - told)

    def articles(self) -> Iterator[Article]:
        """Stream the articles in order, without the pages that are none."""
        for page in self.pages():
            if isinstance(article := page.article(), Article):
                yield article


def _by_number(path: Path) -> tuple[list[tuple[str, int]], str]:
    """Sort key by which ``part2`` stands before ``part10``."""
    parts = _DIGITS.split(path.as_posix())
    return [(text, int(number)) for text, number in zip(parts[::2], [*parts[1::2], -1])], path.as_posix()


def _require_format(path: Path) -> str:
    if name := format_of(path):
        return name
    if path.stat().st_size == 0:
        raise InputError("the file is empty", where=path, expected="articles", cure="fetch the file again")
    raise InputError(
        "not a corpus that the kit reads",
        where=path,
        expected=f"a file ending in {', '.join(ENDINGS)} (texts also in .gz or .bz2): "
        "a .xml file with <mediawiki>, a .json file of CirrusSearch or with title and text in each line",
        cure="name a corpus, or convert it; a file that should be one may be cut: fetch it again",
    )


def _require_all_parts(files: tuple[Path, ...]) -> None:
    """Raise when names tell that a part of a divided corpus is missing."""
    groups: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
    for file in files:
        name = file.as_posix()
        if shard := _SHARD.fullmatch(name):
            groups.setdefault((shard[1], shard[3], shard[4]), []).append((int(shard[2]),))
        elif part := _PAGES.fullmatch(name):
            groups.setdefault((part[1], part[2], part[5]), []).append((int(part[3]), int(part[4])))
    for key, parts in groups.items():
        missing = _missing_shards(key, parts) if len(parts[0]) == 1 else _missing_pages(parts)
        if missing:
            raise InputError(
                f"parts of a divided corpus are missing: {missing}",
                where=Path(key[0]).parent,
                expected=f"all parts of {Path(key[0]).name}…",
                cure="fetch what is missing; to use a part on purpose, name one file, or give the files "
                "names that do not count",
            )


def _missing_shards(key: tuple[str, ...], parts: list[tuple[int, ...]]) -> str:
    """Names such as train-00003-of-00041; some count from 0, some from 1."""
    there, total = {number for (number,) in parts}, int(key[2])
    first = 1 if total in there and 0 not in there else 0
    missing = [number for number in range(first, first + total) if number not in there]
    names = ", ".join(f"{number:0{len(key[2])}d}" for number in missing[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return f"{len(missing)} of {total} shards ({names}{more})" if missing else ""


def _missing_pages(parts: list[tuple[int, ...]]) -> str:
    """Names such as pages-articles2.xml-p41243p151573: each part goes on where the last ended."""
    after = 0
    for first, last in sorted(parts):
        if first > after + 1:
            return f"pages {after + 1} to {first - 1}"
        after = max(after, last)
    return ""
