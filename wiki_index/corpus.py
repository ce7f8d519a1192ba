"""Articles out of what people have: Parquet, JSON lines, CSV, a folder of those or of .txt files."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kaggle_rag.artifacts import sha256
from kaggle_rag.errors import InputError
from kaggle_rag.questions import id_text
from kaggle_rag.retrieval.cleaning import whole
from kaggle_rag.tables import READERS, Row, read_rows

_COLUMNS = ("id", "title", "text")


class Article(NamedTuple):
    id: str
    title: str
    text: str


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The files of a corpus, in name order."""

    root: Path
    files: tuple[Path, ...]

    @classmethod
    def open(cls, path: str | Path) -> Corpus:
        """Find the corpus files at ``path``: one table, or a folder of tables or .txt files.

        Raises
        ------
        InputError : nothing there, or nothing the kit reads.
        """
        root = Path(path)
        if not root.exists():
            raise InputError("no such corpus", where=root, cure="check the spelling of the path")
        if root.is_file():
            return cls(root.parent, (root,))
        for endings in (tuple(READERS), (".txt",)):
            files = sorted(p for p in root.rglob("*") if p.is_file() and p.suffix.lower() in endings)
            if files:
                return cls(root, tuple(files))
        raise InputError(
            "the folder holds no corpus", where=root, expected="files ending in .txt, " + ", ".join(READERS)
        )

    @property
    def path(self) -> Path:
        """What the user named: the only file, or the folder."""
        return self.files[0] if self.files[0].parent == self.root and len(self.files) == 1 else self.root

    def fingerprint(self) -> dict[str, Any]:
        """Name, bytes and SHA-256 of the content; for a folder the sum over names and contents."""
        sums = [(p.relative_to(self.root).as_posix(), sha256(p)) for p in self.files]
        total = sums[0][1] if len(sums) == 1 else hashlib.sha256(repr(sums).encode()).hexdigest()
        return {
            "files": len(sums),
            "bytes": sum(path.stat().st_size for path in self.files),
            "sha256": total,
        }

    def articles(self) -> Iterator[Article]:
        """Stream the articles in order; ids default to a running number, or the file's name."""
        count = 0
        for path in self.files:
            if path.suffix.lower() == ".txt":
                yield _text_file(path, self.root)
                continue
            for number, row in enumerate(read_rows(path, _COLUMNS), 1):
                if number == 1 and not {"title", "text"} <= set(row):
                    row = next(iter(read_rows(path)))  # all columns, for the message
                yield _article(row, count, f"{path}, row {number}")
                count += 1


def _article(row: Row, count: int, where: str) -> Article:
    for name in ("title", "text"):
        if name not in row:
            raise InputError(
                f"column {name!r} is missing",
                where=where,
                expected="columns title and text; id may be there",
                cure="columns found: " + ", ".join(map(str, row)),
            )
    key = id_text(row.get("id"))
    return Article(whole(key) or str(count), whole(str(row["title"] or "")), str(row["text"] or ""))


def _text_file(path: Path, root: Path) -> Article:
    name = path.relative_to(root).with_suffix("").as_posix()
    try:
        return Article(name, path.stem.replace("_", " "), path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"not UTF-8 (byte 0x{error.object[error.start]:02x} at {error.start})",
            where=path,
            cure=f"convert it: iconv -f LATIN1 -t UTF-8 '{path.name}' > new.txt",
        ) from error
