"""The retrievers of an index behind one face: queries in, hits and exact similarities out."""

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


class Answers(Protocol):
    """What a retriever found for some queries: ``hits`` are rows ``(n, k)``, -1 where there are fewer."""

    hits: Rows

    def similarity(self, queries: slice, rows: Rows) -> Matrix:
        """How like those queries the given passages are, ``(q, m)``, see `fusion.Opinion`."""


class Source(Protocol):
    """A retriever that can be asked."""

    def ask(self, texts: Sequence[str], k: int) -> Answers:
        """Search for each text."""


class DenseSource:
    """A dense retriever and its encoder.

    Parameters
    ----------
    exact : search every stored vector instead of the FAISS index.
    """

    def __init__(self, dense: Dense, encoder: Encoder, *, exact: bool = False) -> None:
        self.dense, self.encoder, self.exact = dense, encoder, exact

    def ask(self, texts: Sequence[str], k: int) -> DenseAnswers:
        vectors = self.encoder.encode_queries(texts)
        if self.exact:
            _, hits = self.dense.search_exact(vectors, k, device=self.encoder.device)
        else:
            _, hits = self.dense.search(vectors, k)
        return DenseAnswers(self.dense, vectors, hits)


class DenseAnswers:
    def __init__(self, dense: Dense, vectors: Vectors, hits: Rows) -> None:
        self.dense, self.vectors, self.hits = dense, vectors, hits

    def similarity(self, queries: slice, rows: Rows) -> Matrix:
        """Cosines, by the exact distances of unit vectors: ``1 - d^2 / 2``."""
        distances = exact_distances(self.vectors[queries], self.dense.vectors(rows))
        return np.asarray(1 - distances**2 / 2, dtype=np.float64)


class LexicalSource:
    """BM25."""

    def __init__(self, lexical: Lexical) -> None:
        self.lexical = lexical

    def ask(self, texts: Sequence[str], k: int) -> LexicalAnswers:
        scores, hits = self.lexical.search(texts, k)
        return LexicalAnswers(self.lexical, texts, scores[:, :1], hits)


class LexicalAnswers:
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
    """Place from 1 of each candidate among each query's hits, ``(q, m)``; infinity where it is not."""
    ranks = np.full((len(hits), len(rows)), np.inf)
    for query, found in enumerate(hits):
        place = np.searchsorted(rows, found)
        ranks[query, place[found >= 0]] = np.flatnonzero(found >= 0) + 1
    return ranks
