"""All retrievers that are queried together, and their fused scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.index.kinds import kind_of
from kaggle_rag.index.vectors import Rows
from kaggle_rag.retrieval.fusion import FUSIONS, Matrix, RetrieverScores
from kaggle_rag.retrieval.retrievers import DenseSource, LexicalSource, SearchResults, Source, ranks_of
from kaggle_rag.runtime.errors import ConfigError

BM25 = "bm25"


class FusedHits(NamedTuple):
    """Candidates of some queries: ``rows`` ``(m,)`` sorted, ``scores`` ``(q, m)``, larger is better.

    ``retrievers`` names those that found each candidate, joined by ``+``.
    """

    rows: Rows
    scores: Matrix
    retrievers: tuple[str, ...]


class HybridRetriever:
    """The retrievers of an index that are queried together.

    Parameters
    ----------
    encoders : of the dense retrievers, by name.
    weights : the retrievers to query and their weights; the default one if none is named.
    fusion : a key of `kaggle_rag.retrieval.fusion.FUSIONS`.
    exact : search every stored vector instead of the FAISS index.
    nprobe : inverted lists to visit per query (default: as many as each index was tuned for).

    Raises
    ------
    ConfigError : the index lacks a retriever, or ``nprobe`` is set and no retriever has inverted lists.
    """

    def __init__(
        self,
        index: Index,
        encoders: Mapping[str, Encoder],
        weights: Mapping[str, float] | None = None,
        *,
        fusion: str = "weighted",
        exact: bool = False,
        nprobe: int | None = None,
    ) -> None:
        self.fusion = FUSIONS[fusion]
        self.weights = dict(weights or {index.manifest.default: 1.0})
        self.sources: dict[str, Source] = {}
        for name in self.weights:
            if name == BM25:
                self.sources[name] = LexicalSource(index.lexical())
            elif name in encoders and name in index.dense:
                self.sources[name] = DenseSource(
                    index.dense[name], encoders[name], exact=exact, nprobe=nprobe
                )
            else:
                raise ConfigError(
                    f"no retriever {name!r} in this index",
                    where="contexts.retrievers",
                    expected="some of " + ", ".join([*index.dense, BM25]),
                )
        if nprobe:
            _require_lists([index.dense[name].card.kind for name in self.weights if name != BM25])

    def ask(self, texts: Sequence[str], hits: int) -> HybridResults:
        """Query every retriever for its ``hits`` best passages for each text."""
        return HybridResults(self, {name: source.ask(texts, hits) for name, source in self.sources.items()})

    def search(
        self, texts: Sequence[str], k: int, *, hits: int = 100
    ) -> tuple[npt.NDArray[np.float64], Rows]:
        """Fused scores and rows of the ``k`` best passages for each text, ``(n, k)``.

        Where the retrievers found fewer, the score is ``-inf`` and the row -1.
        """
        scores = np.full((len(texts), k), -np.inf)
        rows = np.full((len(texts), k), -1, dtype=np.int64)
        results = self.ask(texts, max(k, hits))
        for query in range(len(texts)):
            fused = results.of(slice(query, query + 1))
            order = np.argsort(-fused.scores[0], kind="stable")[:k]
            scores[query, : len(order)] = fused.scores[0, order]
            rows[query, : len(order)] = fused.rows[order]
        return scores, rows


class HybridResults:
    """The hits of a hybrid retriever for some texts."""

    def __init__(self, retriever: HybridRetriever, results: Mapping[str, SearchResults]) -> None:
        self.retriever, self.by_name = retriever, results

    def of(self, queries: slice) -> FusedHits:
        """Everything that any retriever found for these queries, each candidate scored by all of them."""
        rows, scores = self.opinions(queries)
        found = {name: np.asarray(np.isfinite(own.ranks).any(axis=0)) for name, own in scores.items()}
        retrievers = ("+".join(name for name in found if found[name][i]) for i in range(len(rows)))
        return FusedHits(rows, self.retriever.fusion(list(scores.values())), tuple(retrievers))

    def opinions(self, queries: slice) -> tuple[Rows, dict[str, RetrieverScores]]:
        """The candidates of these queries, and each retriever's scores of them."""
        hits = {name: result.hits[queries] for name, result in self.by_name.items()}
        rows = np.unique(np.concatenate([own[own >= 0] for own in hits.values()]))
        return rows, {
            name: RetrieverScores(
                self.retriever.weights[name], result.similarity(queries, rows), ranks_of(hits[name], rows)
            )
            for name, result in self.by_name.items()
        }


def _require_lists(kinds: Sequence[str]) -> None:
    if not any(kind_of(kind).lists for kind in kinds):
        raise ConfigError(
            "these retrievers have no inverted lists to visit", where="contexts.nprobe",
            expected="an index of lists, such as ivf-sq8",
            cure="leave it out, or build the index with --index ivf-sq8",
        )  # fmt: skip
