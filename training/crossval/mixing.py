"""Blend and stack a cross-validation's rankers; what mixes a fold was fitted on the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.ensembling.blending import FittedWeights, fit_weights
from kaggle_rag.ensembling.stacking import FittedStack, fit_stack
from kaggle_rag.evaluation.fold_table import Folds
from training.crossval.experiment import Experiment
from training.crossval.settings import BLEND, STACKED

STACK = "stack.npz"


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Tables of the rankers, their blend and, if requested, their stack; and how these were fitted."""

    tables: Mapping[str, Probabilities]
    weights: FittedWeights
    stack: FittedStack | None

    @property
    def stacked(self) -> bool:
        """Whether the stack replaces the blend: it is distinguishably better than equal weights."""
        if self.stack is None:
            return False
        return self.stack.comparison.distinguishable and self.stack.comparison.difference.mean > 0


def mix(experiment: Experiment, folds: Folds, tables: Mapping[str, Probabilities]) -> Mixture:
    """Fit blend and stack; a stack is saved in the experiment's folder."""
    settings, rule = experiment.settings, experiment.solution.blend
    answers, present = experiment.questions.answers, experiment.questions.present
    weights = fit_weights(
        list(tables.values()), answers, present, rule, folds=folds, seed=settings.seed
    )  # fmt: skip
    mixed = {**tables, BLEND: weights.held_out}
    stack = None
    if settings.stack:
        stack = fit_stack(tables, answers, present, kind=settings.stack, folds=folds, seed=settings.seed)
        stack.stack.save(experiment.folder / STACK)
        mixed[STACKED] = stack.held_out
    return Mixture(mixed, weights, stack)
