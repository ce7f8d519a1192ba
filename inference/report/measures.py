"""From a run and its questions to the data of its report: scores, reliability, slices, flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from inference.report.compare import Other, comparison_of, firsts, flags_beside
from inference.report.data import OptionView, QuestionView, RankerView, ReportData, Scores
from inference.report.evidence import best_score, snippet_views
from inference.report.runs import StoredRun
from kaggle_rag.data.contexts import QuestionContexts
from kaggle_rag.data.probabilities import Probabilities, ranking
from kaggle_rag.data.questions import LETTERS, NO_ANSWER, Questions, id_text
from kaggle_rag.evaluation.calibration import calibration_error, reliability
from kaggle_rag.evaluation.metrics import (
    accuracy,
    average_precision_at_k,
    average_precisions,
    bootstrap,
    chance_map_at_k,
    log_losses,
    ranks_of_answers,
)
from kaggle_rag.evaluation.slices import Slice, slice_scores, slices_of

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
# Below this margin the order of the first two options is an accident.
_LOW = 0.1


@dataclasses.dataclass(frozen=True)
class Answered:
    """Questions of a run with all that is known about them, row by row.

    Attributes
    ----------
    tables, mixes : by name, ``(n, k)``; the first mix is the run's answer.
    contexts : ``None`` where a question has none; ``None`` as a whole: contexts are not shown.
    other : the answers of a run that it is compared with.
    """

    questions: Questions
    tables: dict[str, Probabilities]
    mixes: dict[str, Probabilities]
    contexts: Sequence[QuestionContexts | None] | None
    other: Other | None = None

    @property
    def mix(self) -> Probabilities:
        return next(iter(self.mixes.values()))

    @property
    def known(self) -> Mask:
        """``(n,)``: whose right option is known."""
        return np.asarray(self.questions.answers != NO_ANSWER, dtype=bool)


def report_of(run: StoredRun, answered: Answered, notes: Sequence[str]) -> ReportData:
    """The report of these questions of a run."""
    questions, known = answered.questions, answered.known
    (name, mix), *others = answered.mixes.items()
    rankers = [
        _view(each, table, questions, run.weights.get(each)) for each, table in answered.tables.items()
    ]
    anyone = _by_anyone(answered.tables)
    view = dataclasses.replace(_view(name, mix, questions, None), answered=int(anyone.sum()))
    against = None
    if answered.other:
        rankers.append(_view(answered.other.name, answered.other.mix, questions, None))
        against = comparison_of(mix, anyone, answered.other, questions)
    return ReportData(
        run.folder.resolve().name, run.kind, view, chance_map_at_k(questions.present.sum(axis=1)),
        (*rankers, *(_view(each, table, questions, None) for each, table in others)), len(rankers),
        reliability(mix[known], questions.answers[known], questions.present[known]),
        _slices(answered, run.seen) if known.any() else (), run.stages, tuple(question_views(answered)),
        tuple(notes), against,
    )  # fmt: skip


def scores(table: Probabilities, questions: Questions) -> Scores | None:
    """Scores over the questions that are answered and whose answer is known; ``None`` if there are none."""
    rows = np.flatnonzero(_answered(table) & (questions.answers != NO_ANSWER))
    if not len(rows):
        return None
    table, answers, present = table[rows], questions.answers[rows], questions.present[rows]
    ranks = ranks_of_answers(table, answers, present)
    return Scores(
        bootstrap(average_precision_at_k(ranks)), accuracy(ranks),
        float(log_losses(table, answers).mean()), len(rows), calibration_error(table, answers, present),
    )  # fmt: skip


def _view(name: str, table: Probabilities, questions: Questions, weight: float | None) -> RankerView:
    return RankerView(name, weight, int(_answered(table).sum()), scores(table, questions))


def _answered(table: Probabilities) -> Mask:
    """The questions that a ranker answered, ``(n,)``."""
    return np.asarray(np.isfinite(table).all(axis=1), dtype=bool)


def _slices(answered: Answered, seen: Collection[str]) -> tuple[Slice, ...]:
    rows = np.flatnonzero(answered.known)
    questions = answered.questions.take(rows)
    evidence = None
    if answered.contexts is not None:
        evidence = np.array([best_score(answered.contexts[row]) for row in rows.tolist()])
    values = average_precisions(answered.mix[rows], questions.answers, questions.present)
    found = slice_scores(values, slices_of(questions, evidence, seen))
    # A slice of all questions has no rest to differ from.
    return tuple(each for each in found if each.questions < len(questions))


def _by_anyone(tables: Mapping[str, Probabilities]) -> Mask:
    """The questions that at least one ranker answered, ``(n,)``."""
    return np.asarray(np.logical_or.reduce([_answered(table) for table in tables.values()]), dtype=bool)


def question_views(answered: Answered) -> Iterator[QuestionView]:
    """Every question as it is shown, in order."""
    questions, mix = answered.questions, answered.mix.astype(np.float64)
    order = ranking(mix, questions.present)
    ranks = ranks_of_answers(mix, questions.answers, questions.present)
    first, second = (mix[np.arange(len(mix)), order[:, place]] for place in (0, 1))
    margins = first - second
    flags = flags_of(answered, margins)
    if answered.other:
        flags |= flags_beside(answered.mix, answered.other, questions)
    for row, question in enumerate(questions):
        known = bool(answered.known[row])
        chosen = int(order[row, 0])
        contexts = answered.contexts[row] if answered.contexts is not None else None
        yield QuestionView(
            id_text(question.id), question.prompt, tuple(_options(answered, row, chosen)),
            float(margins[row]),
            int(ranks[row]) if known else None,
            1 - float(mix[row, question.answer]) if known else None,
            tuple(flag for flag, mask in flags.items() if mask[row]),
            snippet_views(contexts, question.prompt, question.options[chosen] or "", chosen),
        )  # fmt: skip


def _options(answered: Answered, row: int, chosen: int) -> Iterator[OptionView]:
    for column, text in enumerate(answered.questions.options[row]):
        if text is None:
            continue
        tables = [*answered.tables.values(), *([answered.other.mix] if answered.other else [])]
        cells = [float(table[row, column]) for table in tables]
        yield OptionView(
            LETTERS[column], text, float(answered.mix[row, column]),
            tuple(cell if np.isfinite(cell) else None for cell in cells),
            column == int(answered.questions.answers[row]), column == chosen,
        )  # fmt: skip


def flags_of(answered: Answered, margins: Floats) -> dict[str, Mask]:
    """An ``(n,)`` mask for each key of `data.FLAGS`.

    Parameters
    ----------
    margins : ``(n,)`` between the two likeliest options.
    """
    questions, present = answered.questions, answered.questions.present
    never = np.zeros(len(questions), dtype=bool)
    slices = slices_of(questions)
    by_ranker = np.stack([firsts(table, present) for table in answered.tables.values()])
    likeliest = by_ranker.max(axis=0)
    without = never
    if answered.contexts is not None:
        without = np.array([np.isnan(best_score(each)) for each in answered.contexts], dtype=bool)
    return {
        "wrong": answered.known & (ranking(answered.mix, present)[:, 0] != questions.answers),
        "low-margin": margins < _LOW,
        "disagree": ((by_ranker >= 0) & (by_ranker != likeliest)).any(axis=0),
        "no-evidence": without,
        "twins": slices.get("near-identical options", never),
        "none-of": slices.get("none or all of the above", never),
        "unanswered": ~_by_anyone(answered.tables),
    }
