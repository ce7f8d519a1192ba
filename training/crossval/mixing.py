"""Blend and stack a cross-validation's rankers; what mixes a fold was fitted on the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.ensembling.blending import FittedWeights, blend, fit_weights
from kaggle_rag.ensembling.stacking import FittedStack, fit_stack
from kaggle_rag.evaluation.fold_table import Folds
from kaggle_rag.evaluation.scaling import CALIBRATIONS, Calibration, cross_fitted
from kaggle_rag.runtime.console import say
from training.crossval.experiment import Experiment
from training.crossval.settings import BLEND, STACKED

STACK = "stack.npz"


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Tables of the rankers, their blend and, if requested, their stack; and how these were fitted.

    A ranker's probabilities are blended as its calibration, which has the least log loss out of fold, makes
    them. Those that differ by their seed alone share a calibration and a weight. ``by_seed`` : of each table
    that is a mean over seeds, or a blend of such means, what it would be with one seed.
    """

    tables: Mapping[str, Probabilities]
    weights: FittedWeights
    calibrations: tuple[Calibration, ...]
    stack: FittedStack | None
    by_seed: Mapping[str, tuple[Probabilities, ...]] = dataclasses.field(default_factory=dict)

    @property
    def stacked(self) -> bool:
        """Whether the stack replaces the blend: it is distinguishably better than equal weights."""
        if self.stack is None:
            return False
        return self.stack.comparison.distinguishable and self.stack.comparison.difference.mean > 0


def needs_calibrations(rankers: int, rule: str) -> bool:
    """Whether a blend depends on them: that of one ranker does not, nor does one by ranks."""
    return rankers > 1 and rule != "ranks"


def groups_of(experiment: Experiment, names: Sequence[str]) -> list[list[str]]:
    """The names of those rankers that differ by their seed alone, group by group, in order.

    Only means of probabilities are the same taken in one step or in two: by another rule each is alone.
    """
    own = {spec.name: spec.group for spec in experiment.specs}
    if experiment.solution.blend != "probabilities":
        return [[name] for name in names]
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(own[name] or name, []).append(name)
    return list(groups.values())


def calibrated(
    experiment: Experiment, folds: Folds, tables: Mapping[str, Probabilities]
) -> dict[str, Probabilities]:
    """The tables as they are blended: each fold with the calibration that was fitted on the others."""
    groups, questions = groups_of(experiment, [*tables]), experiment.questions
    if not needs_calibrations(len(groups), experiment.solution.blend):
        return dict(tables)
    found: dict[str, Probabilities] = {}
    for group in groups:
        count = len(group)
        fitted = cross_fitted(
            np.concatenate([tables[name] for name in group]), np.tile(questions.answers, count),
            np.tile(questions.present, (count, 1)), np.tile(folds, count),
            CALIBRATIONS[experiment.settings.calibration],
        )  # fmt: skip
        found |= dict(zip(group, np.split(fitted, count)))
    return found


def _calibrations(
    experiment: Experiment, groups: Sequence[Sequence[str]], tables: Mapping[str, Probabilities]
) -> dict[str, Calibration]:
    """By ranker; none where a blend does not depend on them."""
    if not needs_calibrations(len(groups), experiment.solution.blend):
        if experiment.settings.calibration != "temperature":
            say("note: --calibration has no effect on a blend of one ranker, or by ranks")
        return dict.fromkeys(tables, Calibration())
    answers, present = experiment.questions.answers, experiment.questions.present
    found: dict[str, Calibration] = {}
    for group in groups:
        together = np.concatenate([tables[name] for name in group])
        fitted = CALIBRATIONS[experiment.settings.calibration](
            together, np.tile(answers, len(group)), np.tile(present, (len(group), 1))
        )
        found |= dict.fromkeys(group, fitted.rounded(3))
    return found


def _shared_out(
    weights: FittedWeights, groups: Sequence[Sequence[str]], names: Sequence[str]
) -> FittedWeights:
    """Weights of the groups as those of their rankers, in the order of ``names``."""

    def each(of_groups: Sequence[float]) -> tuple[float, ...]:
        own = {name: w / len(group) for w, group in zip(of_groups, groups) for name in group}
        return tuple(own[name] for name in names)

    tried = each(weights.tried) if weights.tried else None
    return dataclasses.replace(weights, weights=each(weights.weights), tried=tried)


def mix(experiment: Experiment, folds: Folds, tables: Mapping[str, Probabilities]) -> Mixture:
    """Fit blend and stack; a stack is saved in the experiment's folder."""
    settings, rule = experiment.settings, experiment.solution.blend
    answers, present = experiment.questions.answers, experiment.questions.present
    groups = groups_of(experiment, [*tables])
    calibrations = _calibrations(experiment, groups, tables)
    alike = calibrated(experiment, folds, tables)
    means = [_mean([alike[name] for name in group]) for group in groups]
    weights = fit_weights(means, answers, present, rule, folds=folds, seed=settings.seed)
    by_seed = {
        f"{group[0]}, {len(group)} seeds": tuple(tables[name] for name in group)
        for group in groups
        if len(group) > 1
    }
    means_of_seeds = {name: _mean(each) for name, each in by_seed.items()}
    mixed = {**tables, **means_of_seeds, BLEND: weights.held_out}
    if by_seed:
        by_seed[BLEND] = tuple(
            blend([alike[group[seed % len(group)]] for group in groups], weights.weights, present, rule)
            for seed in range(max(map(len, groups)))
        )
    stack = None
    if settings.stack:
        stack = fit_stack(tables, answers, present, kind=settings.stack, folds=folds, seed=settings.seed)
        stack.stack.save(experiment.folder / STACK)
        mixed[STACKED] = stack.held_out
    shared = _shared_out(weights, groups, [*tables])
    return Mixture(mixed, shared, tuple(calibrations[name] for name in tables), stack, by_seed)


def _mean(tables: Sequence[Probabilities]) -> Probabilities:
    return np.asarray(np.mean(tables, axis=0), dtype=np.float32)
