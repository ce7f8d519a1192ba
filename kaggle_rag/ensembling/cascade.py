"""Which questions should an expensive ranker be asked first? Learnt from out-of-fold predictions.

A cascade asks the expensive ranker about the least certain questions only (Viola & Jones 2001; several
winners of LLM Science Exam by hand). What "certain" means is chosen by what it would have gained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import NO_ANSWER
from kaggle_rag.evaluation.metrics import average_precisions
from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.words import counted

Floats = npt.NDArray[np.float64]


def by_margin(table: Probabilities) -> Floats:
    """The distance between the two most likely options, ``(n,)``."""
    best = np.sort(table.astype(np.float64), axis=1)
    return best[:, -1] - (best[:, -2] if table.shape[1] > 1 else 0.0)


def by_expected_score(table: Probabilities) -> Floats:
    """AP@3 that the probabilities themselves expect: ``p1 + p2 / 2 + p3 / 3``."""
    best = np.sort(table.astype(np.float64), axis=1)[:, ::-1][:, :3]
    return np.asarray(best @ (1 / np.arange(1.0, best.shape[1] + 1)), dtype=np.float64)


def by_entropy(table: Probabilities) -> Floats:
    """The negative entropy of the probabilities, in nats."""
    logs = np.log(np.where(table > 0, table, 1.0).astype(np.float64))
    return np.asarray((table * logs).sum(axis=1), dtype=np.float64)


# How certain a table is of each question; the first is used where nothing can be learnt.
CERTAINTY: dict[str, Callable[[Probabilities], Floats]] = {
    "margin": by_margin,
    "expected score": by_expected_score,
    "entropy": by_entropy,
}
_DEFAULT = "margin"
# Questions with which another measure than the default may be chosen.
_LEAST = 100


@dataclasses.dataclass(frozen=True)
class Gate:
    """The order in which a ranker is asked.

    Attributes
    ----------
    certainty : a key of `CERTAINTY`; the least certain questions come first.
    captured : share of the ranker's whole gain in AP@3 that the first half of the out-of-fold questions has;
        ``None`` where nothing was learnt, or nothing is gained.
    """

    certainty: str = _DEFAULT
    captured: float | None = None

    def __str__(self) -> str:
        text = f"least certain first by {self.certainty}"
        if self.captured is None:
            return text
        return f"{text} (out of fold, the first half had {self.captured:.0%} of the gain)"

    def order(self, so_far: Probabilities, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The rows from the least certain to the most, ties in their order.

        ``so_far`` ``(n, k)``: the blend of the rankers that were asked before.
        """
        return rows[np.argsort(CERTAINTY[self.certainty](so_far[rows]), kind="stable")]


def fit_gate(before: Probabilities, gains: Floats) -> Gate:
    """Choose the measure of certainty whose less certain half gains most.

    Parameters
    ----------
    before : ``(n, k)`` out-of-fold blend without the ranker.
    gains : ``(n,)`` AP@3 of the blend with the ranker, less that without.
    """
    total, half = gains.sum(), len(gains) // 2
    if len(gains) < _LEAST or total <= 0:
        return Gate()
    everything = np.arange(len(gains))
    captured = {name: gains[Gate(name).order(before, everything)[:half]].sum() for name in CERTAINTY}
    best = max(captured, key=lambda name: captured[name])
    return Gate(best, float(captured[best] / total))


@dataclasses.dataclass(frozen=True)
class OutOfFold:
    """What a solution's rankers answered to questions that they were not trained on.

    Attributes
    ----------
    names, tables : of each ranker, in the order of the solution, ``(n, k)`` each.
    answers : ``(n,)`` columns of the right options.
    present : ``(n, k)`` bool.
    """

    names: tuple[str, ...]
    tables: tuple[Probabilities, ...]
    answers: npt.NDArray[np.int64]
    present: npt.NDArray[np.bool_]

    @classmethod
    def read(cls, path: Path, rankers: int) -> OutOfFold:
        """Read predictions with answers.

        Raises
        ------
        ConfigError : they are of another number of rankers, or have no answers.
        ArtifactError : another file.
        """
        stored = Predictions.read(path)
        if len(stored.tables) != rankers:
            raise ConfigError(
                f"out-of-fold predictions of {counted(len(stored.tables), 'ranker')}, the settings name "
                f"{rankers}",
                where=path, expected="those of the solution's rankers, in their order",
                cure="cross-validate with --final writes both; or remove out_of_fold",
            )  # fmt: skip
        known = np.flatnonzero(stored.answers != NO_ANSWER)
        if not len(known):
            raise ConfigError(
                "these predictions have no answers to learn from", where=path,
                expected="out-of-fold predictions of questions with answers", cure="remove out_of_fold",
            )  # fmt: skip
        tables = tuple(table[known] for table in stored.tables.values())
        return cls(tuple(stored.tables), tables, stored.answers[known], stored.present[known])

    def scores(self, table: Probabilities) -> Floats:
        """AP@3 of each question, ``(n,)``."""
        return average_precisions(table, self.answers, self.present)

    def asked(self, asked: Sequence[npt.NDArray[np.int64]]) -> list[Probabilities]:
        """The tables as if each ranker had been asked some rows only, NaN elsewhere."""
        some = []
        for table, rows in zip(self.tables, asked):
            given = np.full_like(table, np.nan)
            given[rows] = table[rows]
            some.append(given)
        return some
