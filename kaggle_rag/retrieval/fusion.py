"""What several retrievers say of the same candidates, made one number: the larger, the better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
# Of reciprocal rank fusion; Cormack, Clarke and Buettcher, SIGIR 2009, found 60 and little depends on it.
_RRF = 60


class RetrieverScores(NamedTuple):
    """One retriever's view of ``m`` candidates for ``q`` queries.

    Parameters
    ----------
    weight : its share; the shares of all retrievers need not sum to 1.
    similarity : ``(q, m)``, at most 1 for the best passage a query could have: the cosine of a dense
        retriever, for BM25 the score divided by that of the query's best passage.
    ranks : ``(q, m)`` place among the retriever's own hits from 1; infinity where it did not find it.
    """

    weight: float
    similarity: Matrix
    ranks: Matrix


def weighted(opinions: Sequence[RetrieverScores]) -> Matrix:
    """The weighted mean of similarities, each computed exactly for every candidate of any retriever.

    Of the ways to scale BM25 that were tried (docs/log.md), division by the query's best score was as
    good as z-scores and better than min-max; it leaves a weak best hit strong, which cosines balance.
    """
    total = sum(opinion.weight for opinion in opinions)
    return np.asarray(sum(o.weight / total * o.similarity for o in opinions), dtype=np.float64)


def reciprocal_ranks(opinions: Sequence[RetrieverScores]) -> Matrix:
    """Reciprocal rank fusion: the sum of ``weight / (60 + rank)``."""
    return np.asarray(sum(o.weight / (_RRF + o.ranks) for o in opinions), dtype=np.float64)


FUSIONS: dict[str, Callable[[Sequence[RetrieverScores]], Matrix]] = {
    "weighted": weighted,
    "rrf": reciprocal_ranks,
}


def best_query(scores: Matrix) -> npt.NDArray[np.float64]:
    """Each candidate by the one query it answers best, ``(m,)``."""
    return np.asarray(scores.max(axis=0), dtype=np.float64)


def best_and_mean(scores: Matrix) -> npt.NDArray[np.float64]:
    """The same, and how well it fits all the others: the mean of the best and the mean query."""
    return np.asarray((scores.max(axis=0) + scores.mean(axis=0)) / 2, dtype=np.float64)


MERGES: dict[str, Callable[[Matrix], npt.NDArray[np.float64]]] = {
    "best": best_query,
    "best+mean": best_and_mean,
}
