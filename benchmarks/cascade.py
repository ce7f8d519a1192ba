"""What a ranker adds when it is asked the least certain share of the questions, after all others.

From the out-of-fold predictions of a cross-validation. Temperatures, weights and the gate of a fold are
fitted on the other folds. ``in any order``: a random share of the questions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common import parser, report
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.ensembling.blending import blend, fit_weights
from kaggle_rag.ensembling.cascade import fit_gate
from kaggle_rag.evaluation.metrics import average_precisions, bootstrap, paired_bootstrap
from kaggle_rag.evaluation.scaling import fit_temperature, with_temperature
from kaggle_rag.runtime.errors import run_program

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_SHUFFLES = 20
Rows = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


class Fold:
    """The rankers of a fold, blended as the other folds say; ``last`` is asked after the others."""

    def __init__(self, stored: Predictions, names: Sequence[str], last: int, fold: int) -> None:
        here, self.last = stored.folds == fold, last
        tables = [stored.tables[name] for name in names]
        present = np.any([table > 0 for table in tables], axis=0)
        known = [table[~here] for table in tables]
        answers = stored.answers[~here], stored.answers[here]
        heat = [fit_temperature(table, answers[0], present[~here]) for table in known]
        fitted = fit_weights(
            [with_temperature(table, present[~here], t) for table, t in zip(known, heat)], answers[0],
            present[~here], folds=stored.folds[~here] if len(np.unique(stored.folds)) > 2 else None,
        )  # fmt: skip
        self.weights = fitted.weights
        self.known = [with_temperature(table, present[~here], t) for table, t in zip(known, heat)]
        self.asked = [with_temperature(table[here], present[here], t) for table, t in zip(tables, heat)]
        self.present, self.answers = (present[~here], present[here]), answers
        before, after = self._known(np.empty(0, np.int64)), self._known(np.arange(len(answers[0])))
        gains = (average_precisions(table, answers[0], self.present[0]) for table in (after, before))
        self.gate = fit_gate(before, np.subtract(*gains))

    def order(self) -> Rows:
        everything = np.arange(len(self.answers[1]))
        return self.gate.order(self.mixed(everything[:0]), everything)

    def values(self, rows: Rows) -> Values:
        """AP@3 of each question when the last ranker answers these rows, ``(n,)``."""
        return average_precisions(self.mixed(rows), self.answers[1], self.present[1])

    def mixed(self, rows: Rows) -> Probabilities:
        return self._mix(self.asked, self.present[1], rows)

    def _known(self, rows: Rows) -> Probabilities:
        return self._mix(self.known, self.present[0], rows)

    def _mix(
        self, tables: Sequence[Probabilities], present: npt.NDArray[np.bool_], rows: Rows
    ) -> Probabilities:
        some = np.full_like(tables[self.last], np.nan)
        some[rows] = tables[self.last][rows]
        given = [some if number == self.last else table for number, table in enumerate(tables)]
        # One that the weights leave out still answers where it is alone.
        return blend(given, [max(weight, 1e-6) for weight in self.weights], present)


def rows_of(stored: Predictions, names: Sequence[str], last: int) -> list[dict[str, Any]]:
    """A row a share of the questions."""
    folds = [Fold(stored, names, last, fold) for fold in np.unique(stored.folds).tolist()]
    orders = [each.order() for each in folds]
    rng = np.random.default_rng(0)
    shuffles = [[rng.permutation(rows) for rows in orders] for _ in range(_SHUFFLES)]

    def scores(chosen: Sequence[Rows], share: float) -> Values:
        parts = zip(folds, chosen)
        return np.concatenate([fold.values(rows[: round(share * len(rows))]) for fold, rows in parts])

    none, full = (scores(orders, share) for share in (0.0, 1.0))
    whole, gain = paired_bootstrap(full, none), full.mean() - none.mean()
    told = whole.distinguishable and gain > 0
    rows = []
    for share in _SHARES:
        values = scores(orders, share)
        shuffled = [scores(each, share).mean() for each in shuffles]
        rows.append(
            {
                "asked last": names[last], "questions": f"{share:.0%}", "MAP@3": str(bootstrap(values)),
                "share of the gain": f"{(values.mean() - none.mean()) / gain:.0%}" if told else "no gain",
                "in any order": f"{(np.mean(shuffled) - none.mean()) / gain:.0%}" if told else None,
            }
        )  # fmt: skip
    return rows


def main() -> int:
    flags = parser(str(__doc__))
    flags.add_argument("run", type=Path, help="folder of a cross-validation")
    arguments = flags.parse_args()
    stored = Predictions.read(arguments.run / "oof.parquet")
    names = [name for name in stored.tables if name not in ("blend", "stack") and not name.endswith(" seeds")]
    rows = [row for last in range(len(names)) for row in rows_of(stored, names, last)]
    note = (
        f"{len(stored.ids):,} questions, {len(np.unique(stored.folds))} folds; each is blended and ordered as"
        " the others say. 95 % bootstrap intervals."
    )
    report("One ranker asked about a share of the questions, after all others", rows, arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
