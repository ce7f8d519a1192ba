"""From out-of-fold predictions to metrics: scores by fold and ranker, weights, slices, position bias."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.ensembling.blending import blend
from kaggle_rag.evaluation.calibration import calibration_error
from kaggle_rag.evaluation.fold_table import Folds
from kaggle_rag.evaluation.metrics import (
    accuracy,
    average_precisions,
    bootstrap,
    chance_map_at_k,
    detectable_difference,
    log_losses,
    paired_bootstrap,
    paired_with_seeds,
    ranks_of_answers,
)
from kaggle_rag.evaluation.slices import Slice, position_bias, slice_scores, slices_of
from training.crossval.experiment import Experiment
from training.crossval.mixing import Mixture
from training.crossval.report import (
    CrossValidationReport,
    LeakCounts,
    RankerScores,
    StackReport,
    WeightsReport,
)
from training.crossval.settings import BLEND


def evaluate(
    experiment: Experiment, folds: Folds, mixture: Mixture, leaks: LeakCounts, paste: Sequence[str]
) -> CrossValidationReport:
    """All metrics of a cross-validation."""
    questions = experiment.questions
    answers, present = questions.answers, questions.present
    return CrossValidationReport(
        experiment.folder,
        tuple(np.bincount(folds).tolist()),
        chance_map_at_k(present.sum(axis=1)),
        {
            name: scores(questions, folds, table, mixture.by_seed.get(name, ()))
            for name, table in mixture.tables.items()
        },
        _detectable(experiment, mixture),
        _weights(experiment, mixture),
        _stack(experiment, mixture),
        _slices(experiment, mixture.tables[BLEND], leaks.seen.ids),
        {name: position_bias(table, answers, present) for name, table in mixture.tables.items()},
        leaks,
        tuple(paste),
    )


def scores(
    questions: Questions, folds: Folds, table: Probabilities, by_seed: Sequence[Probabilities] = ()
) -> RankerScores:
    """MAP@3 with its interval, over all, by fold and with each seed alone; accuracy and log loss."""
    answers, present = questions.answers, questions.present
    values = average_precisions(table, answers, present)
    return RankerScores(
        bootstrap(values),
        accuracy(ranks_of_answers(table, answers, present)),
        float(log_losses(table, answers).mean()),
        tuple(bootstrap(values[folds == fold]) for fold in np.unique(folds)),
        calibration_error(table, answers, present),
        tuple(float(average_precisions(each, answers, present).mean()) for each in by_seed),
    )


def _detectable(experiment: Experiment, mixture: Mixture) -> dict[str, float]:
    """The mean over pairs of rankers of the difference that these questions, and seeds, can show."""
    questions = experiment.questions
    groups = {spec.name: spec.group or spec.name for spec in experiment.specs}
    values = {
        name: average_precisions(mixture.tables[name], questions.answers, questions.present)
        for name in groups
    }
    by_group = {
        group: np.stack([values[name] for name, own in groups.items() if own == group])
        for group in dict.fromkeys(groups.values())
    }
    found = {
        "two seeds": [
            detectable_difference(one - other)
            for some in by_group.values()
            for one, other in itertools.combinations(some, 2)
        ],
        "two rankers": [
            paired_with_seeds(one.mean(0), other.mean(0), [one.mean(1), other.mean(1)]).smallest
            for one, other in itertools.combinations(by_group.values(), 2)
        ],
    }
    told = {kind: [each for each in some if each is not None] for kind, some in found.items()}
    return {kind: float(np.mean(some)) for kind, some in told.items() if some}


def _weights(experiment: Experiment, mixture: Mixture) -> WeightsReport:
    rankers = tuple(spec.name for spec in experiment.specs)
    written = [spec.settings.weight for spec in experiment.specs]
    if len(set(written)) == 1:
        return WeightsReport(rankers, mixture.weights, mixture.calibrations)
    answers, present = experiment.questions.answers, experiment.questions.present
    tables = [mixture.tables[name] for name in rankers]
    blends = mixture.tables[BLEND], blend(tables, written, present, experiment.solution.blend)
    fitted, as_written = (average_precisions(table, answers, present) for table in blends)
    compared = paired_bootstrap(fitted, as_written)
    return WeightsReport(rankers, mixture.weights, mixture.calibrations, compared)


def _stack(experiment: Experiment, mixture: Mixture) -> StackReport | None:
    if mixture.stack is None:
        return None
    return StackReport(str(experiment.settings.stack), mixture.stack.comparison, mixture.stacked)


def _slices(experiment: Experiment, table: Probabilities, seen: Collection[str]) -> tuple[Slice, ...]:
    questions = experiment.questions
    values = average_precisions(table, questions.answers, questions.present)
    slices = slice_scores(values, slices_of(questions, best_evidence(experiment), seen))
    # A slice of all questions has no rest to differ from.
    return tuple(each for each in slices if each.questions < len(questions))


def best_evidence(experiment: Experiment) -> npt.NDArray[np.float64] | None:
    """The score of each question's best evidence, NaN if it has none."""
    if experiment.contexts is None:
        return None
    best: list[Any] = [context.evidence()[:1] for context in experiment.contexts]
    return np.array([each[0].score if each else np.nan for each in best], dtype=np.float64)
