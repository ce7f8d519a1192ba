"""Another run of the same questions beside the one that is reported."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from inference.report.data import RunComparison
from inference.report.runs import StoredRun
from kaggle_rag.data.probabilities import Probabilities, ranking
from kaggle_rag.data.questions import NO_ANSWER, Questions
from kaggle_rag.evaluation.metrics import average_precisions, paired_bootstrap
from kaggle_rag.evaluation.slices import slice_scores, slices_of
from kaggle_rag.runtime.errors import InputError

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class Other(NamedTuple):
    """The answers of another run: its name, and its mixed table ``(n, k)``, NaN where it did not answer."""

    name: str
    mix: Probabilities

    @property
    def answered(self) -> Mask:
        return np.asarray(np.isfinite(self.mix).all(axis=1), dtype=bool)


def other_of(other: StoredRun, run: StoredRun, questions: Questions) -> Other:
    """The answers of ``other`` to the questions of ``run``, in the order of the latter.

    Parameters
    ----------
    questions : those of ``run``, in its order.

    Raises
    ------
    InputError : it has answered none of them.
    """
    row_of = {pair: row for row, pair in enumerate(zip(other.ids, other.marks))}
    pairs = [row_of.get(pair, -1) for pair in zip(run.ids, run.marks)]
    rows = np.array(pairs, dtype=np.int64)
    shared = np.flatnonzero(rows >= 0)
    if not len(shared):
        raise InputError(
            f"it has no question in common with {run.folder}", where=other.folder,
            expected="another run of the same questions", cure="pass one to --compare, or leave it out",
        )  # fmt: skip
    mix = np.full(questions.present.shape, np.nan, np.float32)
    mix[shared] = next(iter(other.take(rows[shared]).mixed(questions.present[shared]).values()))
    name = other.folder.resolve().name
    return Other(str(other.folder) if name == run.folder.resolve().name else name, mix)


def comparison_of(mix: Probabilities, answered: Mask, other: Other, questions: Questions) -> RunComparison:
    """How much the run's ``mix`` ``(n, k)`` differs from another's, over what both answered.

    Parameters
    ----------
    answered : ``(n,)`` whether the run answered it.
    """
    both = answered & other.answered
    shared = int(both.sum())
    rows = np.flatnonzero(both & (questions.answers != NO_ANSWER))
    changed = int((firsts(mix, questions.present) != firsts(other.mix, questions.present))[both].sum())
    if not len(rows):
        return RunComparison(other.name, shared, changed, 0, None, 0, 0, ())
    ours, theirs = _points(mix, other, questions, rows)
    slices = slice_scores(ours - theirs, slices_of(questions.take(rows)))
    return RunComparison(
        other.name, shared, changed, len(rows), paired_bootstrap(ours, theirs),
        int((ours > theirs).sum()), int((ours < theirs).sum()),
        tuple(each for each in slices if each.questions < len(rows)),
    )  # fmt: skip


def _points(
    mix: Probabilities, other: Other, questions: Questions, rows: npt.NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """AP@3 of both runs in these rows, whose answers are known."""
    taken = questions.take(rows)
    ours, theirs = (
        average_precisions(table[rows], taken.answers, taken.present) for table in (mix, other.mix)
    )
    return ours, theirs


def flags_beside(mix: Probabilities, other: Other, questions: Questions) -> dict[str, Mask]:
    """An ``(n,)`` mask for each key of `data.COMPARED`, over what the other run answered."""
    there = other.answered
    gaps = np.zeros(len(questions))
    if len(rows := np.flatnonzero(there & (questions.answers != NO_ANSWER))):
        ours, theirs = _points(mix, other, questions, rows)
        gaps[rows] = ours - theirs
    return {
        "changed": there & (firsts(mix, questions.present) != firsts(other.mix, questions.present)),
        "better": np.asarray(gaps > 0, dtype=bool),
        "worse": np.asarray(gaps < 0, dtype=bool),
    }


def firsts(table: Probabilities, present: Mask) -> npt.NDArray[np.int64]:
    """The likeliest option of each question, ``(n,)``; -1 where there is no answer."""
    answered = np.isfinite(table).all(axis=1)
    first = ranking(np.where(np.expand_dims(answered, 1), table, 0.0), present)[:, 0]
    return np.asarray(np.where(answered, first, -1), dtype=np.int64)
