"""One dense retriever of an index: its vectors, its FAISS index, and how they are searched."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kaggle_rag.index.exact import Distances, refine, search_exact
from kaggle_rag.index.kinds import kind_of
from kaggle_rag.index.manifest import DenseCard
from kaggle_rag.index.vectors import Rows, VectorLayout, Vectors, VectorStore
from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.words import counted

if TYPE_CHECKING:
    import faiss

VECTORS_FILE, FAISS_FILE = "vectors.npy", "index.faiss"
# Queries in one FAISS call: bounds its distance buffers and gives a progress bar something to count.
_QUERIES = 1024


class Dense:
    """Vectors and FAISS index of one encoder, memory-mapped.

    Parameters
    ----------
    folder : holds ``vectors.npy`` and ``index.faiss``.
    card : what the manifest says about them.
    rows : how many passages the index has.
    """

    def __init__(self, folder: Path, card: DenseCard, rows: int) -> None:
        self.folder, self.card = folder, card
        self.store = VectorStore(
            folder / VECTORS_FILE, VectorLayout(rows, card.encoder.dim, card.vectors, card.step)
        )

    def require_agreement(self) -> None:
        """Raise ``ArtifactError`` unless the FAISS index holds the rows and dimensions of the vectors."""
        # Reading it compares them.
        _ = self.faiss

    @functools.cached_property
    def faiss(self) -> faiss.Index:
        """The FAISS index; flat codes and plain lists stay on disk, packed lists are loaded.

        Raises
        ------
        ArtifactError : it cannot be read, or holds other rows or dimensions than the vectors.
        """
        import faiss

        flag = faiss.IO_FLAG_MMAP if kind_of(self.card.kind).lists else faiss.IO_FLAG_MMAP_IFC
        try:
            read = faiss.read_index(str(self.folder / FAISS_FILE), flag)
        except RuntimeError as error:
            raise ArtifactError(
                "FAISS cannot read this index", where=self.folder / FAISS_FILE, cure="build it again"
            ) from error
        if (read.ntotal, read.d) != (rows := len(self.store), dim := self.card.encoder.dim):
            raise ArtifactError(
                f"the FAISS index has {counted(read.ntotal, 'row')} of {read.d} dimensions, its vectors "
                f"{counted(rows, 'row')} of {dim}", where=self.folder / FAISS_FILE,
                cure="parts of two builds were mixed: rebuild the index",
            )  # fmt: skip
        return read

    def search(
        self, queries: Vectors, k: int, *, nprobe: int | None = None,
        on_queries: Callable[[int], object] | None = None,
    ) -> tuple[Distances, Rows]:  # fmt: skip
        """Squared L2 distances and rows of the ``k`` nearest passages, each ``(n, min(k, rows))``.

        The hits of a compressed index are rescored with the stored vectors, at least the card's ``depth``
        candidates per query. Where lists held too few, the distance is ``inf`` and the row -1.
        ``nprobe`` lists are visited, by default those of the card.
        """
        k = min(k, len(self.store))
        distances = np.empty((len(queries), k), dtype=np.float32)
        rows = np.empty((len(queries), k), dtype=np.int64)
        for start in range(0, len(queries), _QUERIES):
            part = slice(start, start + _QUERIES)
            distances[part], rows[part] = self._search(queries[part], k, nprobe or self.card.nprobe)
            if on_queries:
                on_queries(len(queries[part]))
        return distances, rows

    def _search(self, queries: Vectors, k: int, nprobe: int) -> tuple[Distances, Rows]:
        if not kind_of(self.card.kind).refined:
            distances, rows = self.faiss.search(queries, k)
            return distances, rows
        candidates = self.candidates(queries, max(k, self.card.depth), nprobe)
        return refine(queries, candidates, self.store, k)

    def candidates(self, queries: Vectors, depth: int, nprobe: int) -> Rows:
        """Rows ``(n, depth)`` that the compressed index alone would return, -1 where it has fewer."""
        depth = min(depth, len(self.store))
        index: Any = self.faiss
        if kind_of(self.card.kind).lists:
            import faiss

            # Vectors may be transformed before they come to the lists.
            faiss.extract_index_ivf(index).nprobe = nprobe
        _, rows = index.search(queries, depth)
        return np.asarray(rows)

    def search_exact(
        self,
        queries: Vectors,
        k: int,
        *,
        device: str = "cpu",
        on_rows: Callable[[int], object] | None = None,
    ) -> tuple[Distances, Rows]:
        """The same over all stored vectors; see `kaggle_rag.index.exact.search_exact`."""
        return search_exact(queries, self.store, k, device=device, on_rows=on_rows)

    def vectors(self, rows: Rows) -> Vectors:
        """The vectors at ``rows``, ``(len(rows), dim)`` float32."""
        return self.store.take(rows)
