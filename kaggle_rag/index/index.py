"""The index folder: passages, dense retrievers and BM25, opened memory-mapped and checked.

::

    index/
      manifest.json              what it was built from, and a checksum per file
      passages/00000.arrow       article, article_id, title, text; about 16,384 rows per shard
      dense/NAME/vectors.npy     (rows, dim) float32, float16 or int8, the same rows
      dense/NAME/index.faiss     over all rows, of a kind of `kaggle_rag.index.kinds`
      lexical/000/               bm25s, two million passages per part; if requested
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kaggle_rag.index.dense import Dense
from kaggle_rag.index.manifest import Manifest
from kaggle_rag.index.passages import Passages
from kaggle_rag.index.vectors import Rows, Vectors
from kaggle_rag.runtime.console import progress as bar_of
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import ArtifactError, ConfigError
from kaggle_rag.runtime.files import verify
from kaggle_rag.runtime.words import counted
from kaggle_rag.text.normalise import WORD_RULES

if TYPE_CHECKING:
    from kaggle_rag.index.encoder import Encoder
    from kaggle_rag.index.lexical import Lexical

DENSE, LEXICAL = "dense", "lexical"
# A checksum runs at over 1 GB/s: below this size a bar would only flicker, and above it opening an
# index would take minutes. `check` reads every file whatever its size.
CHECKED_ON_OPENING = 4 << 30


def passages_name(number: int) -> str:
    """``passages/00000.arrow``: a shard's path inside the index folder."""
    return f"passages/{number:05d}.arrow"


class Index:
    """An index opened for reading; nothing is loaded into RAM until it is used."""

    def __init__(self, folder: str | Path, *, verify_content: bool | None = None) -> None:
        """Open and check an index.

        Parameters
        ----------
        verify_content : read every file and compare its checksum; ``None`` reads the smallest
            files, up to `CHECKED_ON_OPENING` bytes, and compares only the size of the others.

        Raises
        ------
        ArtifactError : no or another manifest; a missing, truncated or changed file; rows that disagree.
        """
        self.folder = Path(folder)
        self.manifest = Manifest.read(folder)
        self._verify(verify_content)
        shards = range(len(self.manifest.shard_rows))
        self.passages = Passages([self.folder / passages_name(i) for i in shards])
        self.dense = {
            name: Dense(self.folder / DENSE / name, card, self.manifest.passages)
            for name, card in self.manifest.dense.items()
        }
        self._require_agreement()

    def __len__(self) -> int:
        return self.manifest.passages

    @property
    def default(self) -> Dense:
        """The dense retriever that is used when no other is named."""
        return self.dense[self.manifest.default]

    def with_default(self, dense: Dense) -> Index:
        """The same index with another default retriever over its vectors."""
        other = copy.copy(self)
        other.dense = {**self.dense, self.manifest.default: dense}
        return other

    def lexical(self) -> Lexical:
        """The BM25 parts; raise ``ConfigError`` if the index was built without them.

        Parts that an earlier version built have other words: a note says so, for queries may miss theirs.
        """
        if not self.manifest.lexical_rows:
            raise ConfigError(
                "this index has no BM25 part",
                where=self.folder,
                cure="rebuild it with --lexical (--reuse keeps the vectors), "
                "or leave bm25 out of contexts.retrievers",
            )
        from kaggle_rag.index.lexical import Lexical

        if self.manifest.asked.get("word_rules") != WORD_RULES:
            say(
                f"note: {self.folder}: an earlier version built the BM25 part, with other words for numbers "
                "and symbols (299,792,458, CO₂): build the index again, with --reuse"
            )
        return Lexical(self.folder / LEXICAL, self.manifest.lexical_rows, self.manifest.language)

    def encoder(
        self, name: str | None = None, *, location: str | None = None, device: str | None = None
    ) -> Encoder:
        """The encoder of a dense retriever (default: the default one), from ``location`` if it moved.

        Raises
        ------
        ConfigError : no such retriever.
        ArtifactError : the weights found are not those that the vectors were made by.
        """
        from kaggle_rag.index.encoder import Encoder

        name = name or self.manifest.default
        if name not in self.dense:
            raise ConfigError(
                f"no retriever {name!r} in this index", where=self.folder,
                expected="one of " + ", ".join(self.dense),
            )  # fmt: skip
        return Encoder.of_index(self.dense[name].card.encoder, name=location, device=device)

    def search(
        self, queries: Vectors, k: int, *, progress: bool = False
    ) -> tuple[npt.NDArray[np.float32], Rows]:
        """Squared L2 distances and row numbers of the ``k`` nearest passages, each ``(n, k)``.

        ``k`` is capped at the number of passages.
        """
        with bar_of(len(queries), "search", "query", disable=not progress) as bar:
            return self.default.search(queries, k, on_queries=bar.update)

    def vectors(self, rows: Rows) -> Vectors:
        """The default retriever's vectors at ``rows``, ``(len(rows), dim)`` float32."""
        return self.default.vectors(rows)

    def _verify(self, content: bool | None) -> None:
        files = dict(sorted(self.manifest.files.items(), key=lambda item: int(item[1]["bytes"])))
        sizes = np.cumsum([seal["bytes"] for seal in files.values()])
        read = {name for name, size in zip(files, sizes) if content or size <= CHECKED_ON_OPENING}
        if content is False:
            read = set()
        total = sum(files[name]["bytes"] for name in read)
        with bar_of(
            total, "checksums", "B", unit_scale=True, disable=total < CHECKED_ON_OPENING
        ) as bar:
            verify(self.folder, files, content=read, on_bytes=bar.update)

    def _require_agreement(self) -> None:
        """Raise unless all parts hold the same number of rows; a FAISS index is asked when it is read."""
        counts = {
            "manifest": self.manifest.passages,
            "text": len(self.passages),
            "shards": sum(self.manifest.shard_rows),
        }
        if self.manifest.lexical_rows:
            counts["bm25"] = sum(self.manifest.lexical_rows)
        if len(set(counts.values())) > 1:
            raise ArtifactError(
                "the parts of the index disagree: "
                + ", ".join(f"{name} {counted(count, 'row')}" for name, count in counts.items()),
                where=self.folder,
                cure="parts of two builds were mixed: rebuild the index",
            )
