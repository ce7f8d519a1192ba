"""Re-rank the best candidates of many contexts with a model of pairs, as one list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from kaggle_rag.retrieval.candidates import Candidates
from kaggle_rag.retrieval.fusion import RetrieverScores, reciprocal_ranks
from kaggle_rag.retrieval.queries import Query

Scores = npt.NDArray[np.float64]


class PairScorer(Protocol):
    """A re-ranker: a cross-encoder, or a late interaction."""

    def scores(
        self,
        pairs_query: Sequence[str],
        pairs_passage: Sequence[str],
        on_rows: Callable[[int], object] | None = None,
    ) -> npt.NDArray[np.float32]:
        """The score of each pair, ``(n,)``, larger is better."""


class ContextQueries(NamedTuple):
    """The queries of one context and their candidates; ``asked`` is what a re-ranker reads beside these."""

    queries: Sequence[Query]
    candidates: Candidates
    asked: str


def reread(
    reranker: PairScorer, contexts: Sequence[ContextQueries], scores: Sequence[Scores], most: int,
    *, merged: bool = False,
) -> list[Scores]:  # fmt: skip
    """Scores ``(m,)`` float64 of each context's candidates; the ``most`` best by the re-ranker.

    With ``merged`` the best are scored by reciprocal rank fusion of both orders. The others follow them, in
    their order. All pairs are sorted by length together, so the model's
    batches are full and hardly padded, and a pair that occurs twice is read once.
    """
    best = [np.argsort(-own, kind="stable")[:most] for own in scores]
    pairs = [
        [(asked, candidates.text(int(position))) for position in chosen]
        for (_, candidates, asked), chosen in zip(contexts, best)
    ]
    index = {pair: number for number, pair in enumerate(dict.fromkeys(p for some in pairs for p in some))}
    reranked = reranker.scores([query for query, _ in index], [text for _, text in index])
    read = [np.asarray(reranked[[index[pair] for pair in some]], dtype=np.float64) for some in pairs]
    return [
        _below(own, chosen, _merged(each) if merged else each) if len(chosen) else own
        for own, chosen, each in zip(scores, best, read)
    ]


def _merged(read: Scores) -> Scores:
    """Reciprocal rank fusion of the retrievers' order, in which they stand, and that of these scores."""
    orders = np.arange(len(read)), np.argsort(np.argsort(-read, kind="stable"), kind="stable")
    ranks = [np.asarray(order + 1, dtype=np.float64) for order in orders]
    return reciprocal_ranks([RetrieverScores(1.0, np.empty(0), each) for each in ranks])


def _below(scores: Scores, best: npt.NDArray[np.int64], read: Scores) -> Scores:
    """``read`` at the best candidates, and all other scores below it, in their order."""
    reread = read.min() - 1 - (scores.max() - scores)
    reread[best] = read
    return np.asarray(reread, dtype=np.float64)
