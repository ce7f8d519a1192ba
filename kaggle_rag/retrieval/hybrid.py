"""All retrievers that are asked together, and their verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.index.vectors import Rows
from kaggle_rag.retrieval.fusion import FUSIONS, Matrix, RetrieverScores
from kaggle_rag.retrieval.retrievers import Answers, DenseSource, LexicalSource, Source, ranks_of
from kaggle_rag.runtime.errors import ConfigError

BM25 = "bm25"


class Found(NamedTuple):
    """Candidates of some queries: ``rows`` ``(m,)`` sorted, ``scores`` ``(q, m)``, larger is better.

    ``finders`` names for each candidate the retrievers that found it, joined by ``+``.
    """

    rows: Rows
    scores: Matrix
    finders: tuple[str, ...]


class HybridRetriever:
    """The retrievers of an index that are asked together.

    Parameters
    ----------
    encoders : of the dense retrievers, by name.
    weights : the retrievers to ask and their weights; the default one if none is named.
    fusion : a key of `kaggle_rag.retrieval.fusion.FUSIONS`.
    exact : search every stored vector instead of the FAISS index.

    Raises
    ------
    ConfigError : a retriever that the index does not have.
    """

    def __init__(
        self,
        index: Index,
        encoders: Mapping[str, Encoder],
        weights: Mapping[str, float] | None = None,
        *,
        fusion: str = "weighted",
        exact: bool = False,
    ) -> None:
        self.fusion = FUSIONS[fusion]
        self.weights = dict(weights or {index.manifest.default: 1.0})
        self.sources: dict[str, Source] = {}
        for name in self.weights:
            if name == BM25:
                self.sources[name] = LexicalSource(index.lexical())
            elif name in encoders and name in index.dense:
                self.sources[name] = DenseSource(index.dense[name], encoders[name], exact=exact)
            else:
                raise ConfigError(
                    f"no retriever {name!r} in this index",
                    where="contexts.retrievers",
                    expected="some of " + ", ".join([*index.dense, BM25]),
                )

    def ask(self, texts: Sequence[str], hits: int) -> HybridResults:
        """Ask every retriever for its ``hits`` best passages of each text."""
        return HybridResults(self, {name: source.ask(texts, hits) for name, source in self.sources.items()})

    def search(
        self, texts: Sequence[str], k: int, *, hits: int = 100
    ) -> tuple[npt.NDArray[np.float64], Rows]:
        """Fused scores and rows of the ``k`` best passages of each text, ``(n, k)``.

        Where the retrievers found fewer, the score is ``-inf`` and the row -1.
        """
        scores = np.full((len(texts), k), -np.inf)
        rows = np.full((len(texts), k), -1, dtype=np.int64)
        verdicts = self.ask(texts, max(k, hits))
        for query in range(len(texts)):
            found = verdicts.of(slice(query, query + 1))
            order = np.argsort(-found.scores[0], kind="stable")[:k]
            scores[query, : len(order)] = found.scores[0, order]
            rows[query, : len(order)] = found.rows[order]
        return scores, rows


class HybridResults:
    """What a panel found for some texts."""

    def __init__(self, panel: HybridRetriever, answers: Mapping[str, Answers]) -> None:
        self.panel, self.answers = panel, answers

    def of(self, queries: slice) -> Found:
        """All that any retriever found for these queries, each candidate judged by all of them."""
        rows, opinions = self.opinions(queries)
        named = {name: np.asarray(np.isfinite(o.ranks).any(axis=0)) for name, o in opinions.items()}
        finders = ("+".join(name for name in named if named[name][i]) for i in range(len(rows)))
        return Found(rows, self.panel.fusion(list(opinions.values())), tuple(finders))

    def opinions(self, queries: slice) -> tuple[Rows, dict[str, RetrieverScores]]:
        """The candidates of these queries, and what each retriever says of them."""
        hits = {name: answer.hits[queries] for name, answer in self.answers.items()}
        rows = np.unique(np.concatenate([found[found >= 0] for found in hits.values()]))
        return rows, {
            name: RetrieverScores(
                self.panel.weights[name], answer.similarity(queries, rows), ranks_of(hits[name], rows)
            )
            for name, answer in self.answers.items()
        }
