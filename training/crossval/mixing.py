"""Blend and stack a cross-validation's rankers; what mixes a fold was fitted on the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.ensembling.blending import FittedWeights, fit_weights
from kaggle_rag.ensembling.stacking import FittedStack, fit_stack
from kaggle_rag.evaluation.calibration import cross_fitted, fit_temperature
from kaggle_rag.evaluation.fold_table import Folds
from training.crossval.experiment import Experiment
from training.crossval.settings import BLEND, STACKED

STACK = "stack.npz"


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Tables of the rankers, their blend and, if requested, their stack; and how these were fitted.

    A ranker's probabilities are blended at its temperature, which has the least log loss out of fold.
    """

    tables: Mapping[str, Probabilities]
    weights: FittedWeights
    temperatures: tuple[float, ...]
    stack: FittedStack | None

    @property
    def stacked(self) -> bool:
        """Whether the stack replaces the blend: it is distinguishably better than equal weights."""
        if self.stack is None:
            return False
        return self.stack.comparison.distinguishable and self.stack.comparison.difference.mean > 0


def needs_temperatures(rankers: int, rule: str) -> bool:
    """Whether a blend depends on them: that of one ranker does not, nor does one by ranks."""
    return rankers > 1 and rule != "ranks"


def calibrated(
    experiment: Experiment, folds: Folds, tables: Sequence[Probabilities]
) -> list[Probabilities]:
    """The tables as they are blended: each fold at the temperature that was fitted on the others."""
    if not needs_temperatures(len(tables), experiment.solution.blend):
        return list(tables)
    questions = experiment.questions
    return [cross_fitted(table, questions.answers, questions.present, folds) for table in tables]


def mix(experiment: Experiment, folds: Folds, tables: Mapping[str, Probabilities]) -> Mixture:
    """Fit blend and stack; a stack is saved in the experiment's folder."""
    settings, rule = experiment.settings, experiment.solution.blend
    answers, present = experiment.questions.answers, experiment.questions.present
    temperatures = (1.0,) * len(tables)
    if needs_temperatures(len(tables), rule):
        temperatures = tuple(
            round(fit_temperature(table, answers, present), 3) for table in tables.values()
        )  # fmt: skip
    alike = calibrated(experiment, folds, list(tables.values()))
    weights = fit_weights(alike, answers, present, rule, folds=folds, seed=settings.seed)
    mixed = {**tables, BLEND: weights.held_out}
    stack = None
    if settings.stack:
        stack = fit_stack(tables, answers, present, kind=settings.stack, folds=folds, seed=settings.seed)
        stack.stack.save(experiment.folder / STACK)
        mixed[STACKED] = stack.held_out
    return Mixture(mixed, weights, temperatures, stack)
