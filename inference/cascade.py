"""How the rankers are mixed, and what out-of-fold predictions say about asking them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from inference.checks import active_rankers, fitting_stack
from kaggle_rag.config import Solution
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.ensembling.blending import blend
from kaggle_rag.ensembling.cascade import Gate, OutOfFold, fit_gate
from kaggle_rag.evaluation.metrics import Interval, bootstrap
from kaggle_rag.evaluation.scaling import Calibration

Rows = npt.NDArray[np.int64]


def mixed(
    solution: Solution, tables: Sequence[Probabilities], present: npt.NDArray[np.bool_]
) -> Probabilities:
    """The blend or the stack of the tables of `active_rankers`; ``present`` ``(n, k)``: existing options.

    A stack mixes the rows that all rankers answered; a blend takes the others.
    """
    rankers = active_rankers(solution)
    if not solution.stack:
        tables = [Calibration.of(each)(table, present) for table, each in zip(tables, rankers)]
        return blend(tables, [each.weight for each in rankers], present, solution.blend)
    blended = blend(tables, [1.0] * len(rankers), present, solution.blend)
    whole = np.isfinite(np.stack(tables)).all(axis=(0, 2))
    if whole.any():
        some = [table[whole] for table in tables]
        blended[whole] = fitting_stack(solution).mixed(some, present[whole])
    return blended


@dataclasses.dataclass(frozen=True)
class Cascade:
    """A solution's rankers, asked one after the other; ``known`` is what they answered out of fold."""

    solution: Solution
    known: OutOfFold | None = None

    @classmethod
    def of(cls, solution: Solution) -> Cascade:
        """Read ``out_of_fold`` of the solution, if it has any.

        Raises
        ------
        KitError : the file is damaged, or of other rankers.
        """
        if solution.out_of_fold is None:
            return cls(solution)
        known = OutOfFold.read(solution.out_of_fold, len(solution.rankers))
        active = active_rankers(solution)
        tables = tuple(table for table, each in zip(known.tables, solution.rankers) if each in active)
        return cls(solution, dataclasses.replace(known, tables=tables))

    def gate(self, earlier: Sequence[int], number: int) -> Gate:
        """In which order a ranker is asked when others, by their places, have answered before it.

        ``number`` and ``earlier`` are places among the active rankers.
        """
        if self.known is None or not earlier:
            return Gate()
        everything = np.arange(len(self.known.answers))
        before = self._mixed(dict.fromkeys(earlier, everything))
        after = self._mixed(dict.fromkeys((*earlier, number), everything))
        return fit_gate(before, self.known.scores(after) - self.known.scores(before))

    def order(self, costs: Sequence[int]) -> tuple[list[int], list[float]]:
        """The rankers by what MAP@3 each adds to those before it, for its cost; and these gains.

        Greedy: at every turn, the one that gains most for its cost; those that gain nothing last, the
        cheapest first.
        """
        assert self.known is not None
        everything = np.arange(len(self.known.answers))
        order, gains, before = list[int](), list[float](), self._score({})
        while left := [n for n in range(len(costs)) if n not in order]:
            added = {
                n: self._score(dict.fromkeys((*order, n), everything)) - before for n in left
            }  # fmt: skip
            best = max(left, key=lambda n: (added[n] > 0, max(added[n], 0.0) / costs[n], -costs[n]))
            order.append(best)
            gains.append(added[best])
            before += added[best]
        return order, gains

    def _score(self, rows_of: dict[int, Rows]) -> float:
        assert self.known is not None
        return float(self.known.scores(self._mixed(rows_of)).mean())

    def expected(self, order: Sequence[int], asked: Sequence[float]) -> list[Interval] | None:
        """MAP@3 after each stage when each ranker gets to a share of the questions; ``None``: unknown.

        Parameters
        ----------
        order : places of the rankers among the active ones, as they are asked.
        asked : the share of the questions that each gets to, from 0 to 1, in that order.
        """
        if self.known is None:
            return None
        scores, rows_of = [], dict[int, Rows]()
        everything = np.arange(len(self.known.answers))
        for turn, (number, share) in enumerate(zip(order, asked)):
            rows = everything
            if turn:
                rows = self.gate(order[:turn], number).order(self._mixed(rows_of), everything)
            rows_of[number] = rows[: round(share * len(everything))]
            scores.append(bootstrap(self.known.scores(self._mixed(rows_of))))
        return scores

    def _mixed(self, rows_of: dict[int, Rows]) -> Probabilities:
        """The mix of the out-of-fold tables as if each ranker had been asked these rows only."""
        assert self.known is not None
        nothing = np.empty(0, np.int64)
        tables = self.known.asked([rows_of.get(n, nothing) for n in range(len(self.known.tables))])
        return mixed(self.solution, tables, self.known.present)
