"""Rankers blended as questions that none of them learnt from say, to be judged by others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.ensembling.blending import blend, fit_weights
from kaggle_rag.evaluation.metrics import log_losses
from kaggle_rag.evaluation.scaling import Calibration, fitted_temperature

_RULES = ("probabilities", "logits")


class Mixture(NamedTuple):
    """How tables of rankers become one: each calibrated by itself, then a weighted mean by a rule."""

    calibrations: tuple[Calibration, ...]
    rule: str
    weights: tuple[float, ...]

    @classmethod
    def fitted(cls, tables: Sequence[Probabilities], questions: Questions) -> Mixture:
        """The one with the least log loss of these questions, weights cross-fitted."""
        answers, present = questions.answers, questions.present
        calibrations = tuple(fitted_temperature(each, answers, present) for each in tables)
        scaled = [of(each, present) for of, each in zip(calibrations, tables)]
        fits = {rule: fit_weights(scaled, answers, present, rule) for rule in _RULES}
        rule = min(fits, key=lambda name: float(log_losses(fits[name].held_out, answers).mean()))
        return cls(calibrations, rule, fits[rule].weights)

    def of(self, tables: Sequence[Probabilities], present: npt.NDArray[np.bool_]) -> Probabilities:
        """The one table of these, ``(n, k)``."""
        scaled = [of(each, present) for of, each in zip(self.calibrations, tables)]
        return blend(scaled, self.weights, present, self.rule)

    def __str__(self) -> str:
        return f"{self.rule}, weights {', '.join(f'{weight:.2f}' for weight in self.weights)}"
