"""Combine the scores of several retrievers for the same candidates into one; larger is better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
# Of reciprocal rank fusion: 60 in Cormack, Clarke and Buettcher, SIGIR 2009; little depends on it.
_RRF = 60


class RetrieverScores(NamedTuple):
    """One retriever's scores of ``m`` candidates for ``q`` queries.

    Parameters
    ----------
    weight : its share; the shares of all retrievers need not sum to 1.
    similarity : ``(q, m)``, at most 1 for a query's best possible passage: the cosine for a dense retriever,
        for BM25 the score divided by that of the query's best passage.
    ranks : ``(q, m)`` rank among the retriever's own hits from 1; infinity where it did not find it.
    """

    weight: float
    similarity: Matrix
    ranks: Matrix


def weighted(scores: Sequence[RetrieverScores]) -> Matrix:
    """The weighted mean of similarities, each computed exactly for every candidate of any retriever.

    Of the ways to scale BM25 that were tried (docs/log.md), division by the query's best score was as
    good as z-scores and better than min-max; it overrates a weak best hit, which cosines balance.
    """
    total = sum(each.weight for each in scores)
    return np.asarray(sum(each.weight / total * each.similarity for each in scores), dtype=np.float64)


def reciprocal_ranks(scores: Sequence[RetrieverScores]) -> Matrix:
    """Reciprocal rank fusion: the sum of ``weight / (60 + rank)``."""
    return np.asarray(sum(each.weight / (_RRF + each.ranks) for each in scores), dtype=np.float64)


FUSIONS: dict[str, Callable[[Sequence[RetrieverScores]], Matrix]] = {
    "weighted": weighted,
    "rrf": reciprocal_ranks,
}


def best_query(scores: Matrix) -> npt.NDArray[np.float64]:
    """Each candidate's score for the query it answers best, ``(m,)``."""
    return np.asarray(scores.max(axis=0), dtype=np.float64)


def best_and_mean(scores: Matrix) -> npt.NDArray[np.float64]:
    """The mean of the best query's score and the mean over all queries, ``(m,)``."""
    return np.asarray((scores.max(axis=0) + scores.mean(axis=0)) / 2, dtype=np.float64)


MERGES: dict[str, Callable[[Matrix], npt.NDArray[np.float64]]] = {
    "best": best_query,
    "best+mean": best_and_mean,
}
