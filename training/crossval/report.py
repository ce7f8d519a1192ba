"""What out-of-fold predictions say: scores by fold and ranker, weights, slices, position bias."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.ensembling.blending import FittedWeights, blend, fit_weights
from kaggle_rag.ensembling.stacking import FittedStack, fit_stack
from kaggle_rag.evaluation.fold_table import Folds
from kaggle_rag.evaluation.metrics import (
    accuracy,
    average_precisions,
    bootstrap,
    chance_map_at_k,
    paired_bootstrap,
    ranks_of_answers,
)
from kaggle_rag.evaluation.slices import PositionBias, position_bias, slice_scores, slices_of
from training.crossval.experiment import Experiment

OOF, STACK = "oof.parquet", "stack.npz"
BLEND, STACKED = "blend", "stack"


@dataclasses.dataclass(frozen=True)
class Report:
    """Tables of the rankers, of their blend and, if asked for, of their stack; how those were fitted."""

    tables: Mapping[str, Probabilities]
    weights: FittedWeights
    stack: FittedStack | None


def mixes(experiment: Experiment, folds: Folds, tables: Mapping[str, Probabilities]) -> Report:
    """Blend and stack the rankers; each fold by what was fitted on the others."""
    answers, present = experiment.questions.answers, experiment.questions.present
    weights = fit_weights(
        list(tables.values()),
        answers,
        present,
        experiment.solution.blend,
        folds=folds,
        seed=experiment.wish.seed,
    )
    mixed = {**tables, BLEND: weights.held_out}
    stack = None
    if experiment.wish.stack:
        stack = fit_stack(
            tables, answers, present, kind=experiment.wish.stack, folds=folds, seed=experiment.wish.seed
        )
        stack.stack.save(experiment.folder / STACK)
        mixed[STACKED] = stack.held_out
    return Report(mixed, weights, stack)


def judge(experiment: Experiment, folds: Folds, verdict: Report) -> dict[str, Any]:
    """All figures of a cross-validation, as plain JSON."""
    questions = experiment.questions
    counts = questions.present.sum(axis=1)
    rankers = [spec.name for spec in experiment.specs]
    return {
        "questions": len(questions),
        "folds": np.bincount(folds).tolist(),
        "chance": round(chance_map_at_k(counts), 4),
        "scores": {name: scores(questions, folds, table) for name, table in verdict.tables.items()},
        "weights": _weights(experiment, rankers, verdict),
        "stack": _stack(experiment, verdict.stack),
        "slices": _slices(experiment, verdict.tables[BLEND]),
        "position bias": {name: _bias(questions, table) for name, table in verdict.tables.items()},
    }


def scores(questions: Questions, folds: Folds, table: Probabilities) -> dict[str, Any]:
    """MAP@3 with its interval, over all and by fold; accuracy and log loss."""
    answers, present = questions.answers, questions.present
    values = average_precisions(table, answers, present)
    right = np.maximum(table[np.arange(len(answers)), answers], 1e-12)
    return {
        "map@3": _interval(values),
        "accuracy": round(accuracy(ranks_of_answers(table, answers, present)), 4),
        "log loss": round(float(-np.log(right).mean()), 4),
        "folds": [_interval(values[folds == fold]) for fold in np.unique(folds)],
    }


def _interval(values: npt.NDArray[np.float64]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in dataclasses.asdict(bootstrap(values)).items()}


def _weights(experiment: Experiment, rankers: list[str], verdict: Report) -> dict[str, Any]:
    fitted = verdict.weights
    written = [spec.settings.weight for spec in experiment.specs]
    found: dict[str, Any] = {
        "weights": dict(zip(rankers, (round(weight, 4) for weight in fitted.weights))),
        "tried": fitted.tried and dict(zip(rankers, (round(weight, 4) for weight in fitted.tried))),
        "fitted against equal": fitted.score and str(fitted.score),
        "log loss of fitted against equal": fitted.loss and str(fitted.loss),
        "refused": fitted.refused,
    }
    if len(set(written)) > 1:
        answers, present = experiment.questions.answers, experiment.questions.present
        tables = [verdict.tables[name] for name in rankers]
        theirs = blend(tables, written, present, experiment.solution.blend)
        ours, before = (
            average_precisions(table, answers, present) for table in (verdict.tables[BLEND], theirs)
        )
        found["against those of the solution"] = str(paired_bootstrap(ours, before))
    return found


def _stack(experiment: Experiment, fitted: FittedStack | None) -> dict[str, Any] | None:
    if fitted is None:
        return None
    return {
        "kind": experiment.wish.stack,
        "against equal weights": str(fitted.comparison),
        "better": stack_is_better(fitted),
    }


def _slices(experiment: Experiment, table: Probabilities) -> list[dict[str, Any]]:
    questions = experiment.questions
    values = average_precisions(table, questions.answers, questions.present)
    found = slice_scores(values, slices_of(questions, best_evidence(experiment)))
    # A slice of all questions has no rest to differ from.
    partial = [each for each in found if each.questions < len(questions)]
    return [{**dataclasses.asdict(each), "text": str(each)} for each in partial]


def best_evidence(experiment: Experiment) -> npt.NDArray[np.float64] | None:
    """The score of each question's best evidence, NaN where it has none."""
    if experiment.contexts is None:
        return None
    found = [context.evidence()[:1] for context in experiment.contexts]
    return np.array([each[0].score if each else np.nan for each in found], dtype=np.float64)


def _bias(questions: Questions, table: Probabilities) -> dict[str, Any]:
    found: PositionBias = position_bias(table, questions.answers, questions.present)
    return {
        "letters": found.letters,
        **{key: [round(float(x), 4) for x in getattr(found, key)] for key in ("given", "first", "right")},
        "p_value": round(found.p_value, 4),
        "text": str(found),
    }


def stack_is_better(fitted: FittedStack) -> bool:
    """Whether the stack is to be used in place of a blend."""
    return fitted.comparison.distinguishable and fitted.comparison.difference.mean > 0
