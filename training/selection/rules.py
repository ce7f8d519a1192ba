"""From each specification's ranking of the questions to one choice for all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kaggle_rag.retrieval.fusion import RetrieverScores, reciprocal_ranks
from training.selection.search import Hits, Rows, Scores, Search


class Choice(NamedTuple):
    """The chosen questions, best first.

    Attributes
    ----------
    rows : ``(b,)``.
    specification : ``(b,)`` which one chose each; -1: none.
    scores : ``(b,)`` that specification's own score of it; NaN without one.
    """

    rows: Rows
    specification: Rows
    scores: Scores


class Ranking(NamedTuple):
    """What a rule is given: the hits of each specification among ``n`` questions, and how many to choose.

    A question that is not among a specification's first ``budget`` gets nothing from it.
    """

    hits: Hits
    search: Search
    n: int
    budget: int
    seed: int

    def ranks(self) -> npt.NDArray[np.float64]:
        """From 1; infinity where there is no hit, ``(s, k)``."""
        ranks = np.arange(1, self.hits.rows.shape[1] + 1, dtype=np.float64)
        return np.where(self.hits.rows >= 0, ranks, np.inf)

    def best(self) -> tuple[npt.NDArray[np.float64], Rows, Scores]:
        """Each question's best rank, by which specification, and its score there, ``(n,)`` each.

        Of equal ranks the higher score counts, and of equal scores the first specification.
        """
        specification, place = np.nonzero(self.hits.rows >= 0)
        rows, scores = self.hits.rows[specification, place], self.hits.scores[specification, place]
        order = np.lexsort((specification, -scores, place))
        # The first of each question in that order.
        hit, first = np.unique(rows[order], return_index=True)
        chosen = order[first]
        ranks, by, own = np.full(self.n, np.inf), np.full(self.n, -1), np.full(self.n, np.nan)
        ranks[hit], by[hit], own[hit] = place[chosen] + 1, specification[chosen], scores[chosen]
        return ranks, by, own


def fused(ranking: Ranking) -> Choice:
    """Reciprocal rank fusion over the specifications: what many of them rank high."""
    shares = reciprocal_ranks([RetrieverScores(1.0, ranking.hits.scores, ranking.ranks())])
    total, hit = np.zeros(ranking.n), ranking.hits.rows >= 0
    np.add.at(total, ranking.hits.rows[hit], shares[hit])
    ranks, by, scores = ranking.best()
    rows = np.lexsort((ranks, -total))[: np.isfinite(ranks).sum()][: ranking.budget]
    return Choice(rows, by[rows], scores[rows])


def best_rank(ranking: Ranking) -> Choice:
    """What any specification ranks highest; of equal ranks the higher scores."""
    ranks, by, scores = ranking.best()
    rows = np.lexsort((-scores, ranks))[: np.isfinite(ranks).sum()][: ranking.budget]
    return Choice(rows, by[rows], scores[rows])


def mean_score(ranking: Ranking) -> Choice:
    """What is nearest to all specifications together, of what matches any; a minority is not covered."""
    hits = np.unique(ranking.hits.rows[ranking.hits.rows >= 0])
    rows = hits[np.argsort(-ranking.search.means()[hits], kind="stable")][: ranking.budget]
    scores = ranking.search.scores(rows)
    by = scores.argmax(axis=0)
    return Choice(rows, by, scores[by, np.arange(len(rows))])


def round_robin(ranking: Ranking) -> Choice:
    """Specifications take turns, in an order that is drawn, each the best question that is left to it."""
    count, depth = ranking.hits.rows.shape
    turns = deque(np.random.default_rng(ranking.seed).permutation(count).tolist())
    taken, starts = np.zeros(ranking.n, dtype=bool), np.zeros(count, dtype=np.int64)
    chosen: list[tuple[int, int, float]] = []
    while turns and len(chosen) < ranking.budget:
        by = turns.popleft()
        rows = ranking.hits.rows[by]
        free = (place for place in range(starts[by], depth) if rows[place] >= 0 and not taken[rows[place]])
        # A specification that has nothing left takes no further turn.
        if (place := next(free, None)) is not None:
            chosen.append((rows[place], by, ranking.hits.scores[by, place]))
            taken[rows[place]], starts[by] = True, place + 1
            turns.append(by)
    found, specification, scores = map(np.array, zip(*chosen))
    return Choice(found, specification, scores)


# How the specifications' rankings become one.
RULES: dict[str, Callable[[Ranking], Choice]] = {
    "rrf": fused,
    "round-robin": round_robin,
    "best": best_rank,
    "mean": mean_score,
}
