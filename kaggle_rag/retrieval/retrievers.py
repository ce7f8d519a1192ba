"""The retrievers of an index behind one interface: queries in, hits and exact similarities out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from kaggle_rag.index.dense import Dense
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.vectors import Rows, Vectors
from kaggle_rag.retrieval.fusion import Matrix
from kaggle_rag.retrieval.rerank import exact_distances

if TYPE_CHECKING:
    from kaggle_rag.index.lexical import Lexical


class SearchResults(Protocol):
    """Search results for some queries: ``hits`` are rows ``(n, k)``, -1 where there are fewer."""

    hits: Rows

    def similarity(self, queries: slice, rows: Rows) -> Matrix:
        """Similarity of the given passages to those queries, ``(q, m)``, see `fusion.RetrieverScores`."""


class Source(Protocol):
    """A retriever that can be queried."""

    def ask(self, texts: Sequence[str], k: int) -> SearchResults:
        """Search for each text."""


class DenseSource:
    """A dense retriever and its encoder.

    Parameters
    ----------
    exact : search every stored vector instead of the FAISS index.
    nprobe : lists of the FAISS index to visit per query (default: as many as it was tuned for).
    """

    def __init__(
        self, dense: Dense, encoder: Encoder, *, exact: bool = False, nprobe: int | None = None
    ) -> None:
        self.dense, self.encoder, self.exact, self.nprobe = dense, encoder, exact, nprobe

    def ask(self, texts: Sequence[str], k: int) -> DenseResults:
        vectors = self.encoder.encode_queries(texts)
        if self.exact:
            _, hits = self.dense.search_exact(vectors, k, device=self.encoder.device)
        else:
            _, hits = self.dense.search(vectors, k, nprobe=self.nprobe)
        return DenseResults(self.dense, vectors, hits)


class DenseResults:
    def __init__(self, dense: Dense, vectors: Vectors, hits: Rows) -> None:
        self.dense, self.vectors, self.hits = dense, vectors, hits

    def similarity(self, queries: slice, rows: Rows) -> Matrix:
        """Cosines, from the exact distances of unit vectors: ``1 - d^2 / 2``."""
        distances = exact_distances(self.vectors[queries], self.dense.vectors(rows))
        return np.asarray(1 - distances**2 / 2, dtype=np.float64)


class LexicalSource:
    """The BM25 retriever."""

    def __init__(self, lexical: Lexical) -> None:
        self.lexical = lexical

    def ask(self, texts: Sequence[str], k: int) -> LexicalResults:
        scores, hits = self.lexical.search(texts, k)
        return LexicalResults(self.lexical, texts, scores[:, :1], hits)


class LexicalResults:
    """``best`` is the score of each query's best passage, ``(n, 1)``."""

    def __init__(
        self, lexical: Lexical, texts: Sequence[str], best: npt.NDArray[np.float32], hits: Rows
    ) -> None:
        self.lexical, self.texts, self.best, self.hits = lexical, texts, best, hits

    def similarity(self, queries: slice, rows: Rows) -> Matrix:
        """BM25 scores divided by the query's best."""
        scores = np.stack([self.lexical.scores(text, rows) for text in self.texts[queries]])
        return np.asarray(scores / np.maximum(self.best[queries], 1e-9), dtype=np.float64)


def ranks_of(hits: Rows, rows: Rows) -> Matrix:
    """Rank from 1 of each candidate among each query's hits, ``(q, m)``; infinity where it is missing."""
    ranks = np.full((len(hits), len(rows)), np.inf)
    for query, own in enumerate(hits):
        columns = np.searchsorted(rows, own)
        ranks[query, columns[own >= 0]] = np.flatnonzero(own >= 0) + 1
    return ranks
