"""Make probabilities as sure as they are right: by a temperature, or by a factor and a bias of each letter.

Source of both: Guo et al. 2017, On calibration of modern neural networks, https://arxiv.org/abs/1706.04599.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_rag.config import RankerSettings
from kaggle_rag.data.probabilities import Probabilities, softmax
from kaggle_rag.data.questions import LETTERS

_Numbers = float | npt.NDArray[np.float64]
# Temperatures that are tried; beyond them a ranker says nothing, or is a mere ranking.
_LEAST, _MOST = 0.01, 100.0
# Standard deviation of the prior on a temperature's logarithm, which keeps it near 1 on few questions.
_PRIOR = 1.0
_TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What is done to a ranker's probabilities before they are blended.

    Attributes
    ----------
    temperature : the logarithms are divided by it.
    factors, biases : instead, by letter from A on, the logarithm is multiplied by the one, and the other is
        added. A letter without any, of questions with more options, has the mean factor and no bias.
    """

    temperature: float = 1.0
    factors: tuple[float, ...] = ()
    biases: tuple[float, ...] = ()

    @classmethod
    def of(cls, settings: RankerSettings) -> Calibration:
        """What a ranker's settings say."""
        if vector := settings.vector:
            return cls(factors=vector.factors, biases=vector.biases)
        return cls(settings.temperature)

    def by_letter(self) -> list[tuple[str, float, float]]:
        """Letter, factor and bias, from A on."""
        return [*zip(LETTERS, self.factors, self.biases)]

    @property
    def settings(self) -> dict[str, Any]:
        """The keys of a ranker in solution.yaml that say the same."""
        if self.factors:
            return {"vector": {"factors": [*self.factors], "biases": [*self.biases]}}
        return {} if self.temperature == 1 else {"temperature": self.temperature}

    def rounded(self, digits: int) -> Calibration:
        """The same with that many decimals."""
        return Calibration(
            round(self.temperature, digits),
            tuple(round(each, digits) for each in self.factors),
            tuple(round(each, digits) for each in self.biases),
        )

    def __call__(self, table: Probabilities, present: npt.NDArray[np.bool_]) -> Probabilities:
        """Probabilities ``(n, k)`` as sure as this makes them; rows of NaN stay NaN."""
        if not self.factors:
            return with_temperature(table, present, self.temperature)
        wide = table.shape[1]
        return _scaled(table, present, _filled(self.factors, wide, float(np.mean(self.factors))),
                       _filled(self.biases, wide, 0.0))  # fmt: skip


def _filled(values: tuple[float, ...], wide: int, other: float) -> npt.NDArray[np.float64]:
    return np.array([*values[:wide], *[other] * (wide - len(values))])


def _scaled(
    table: Probabilities, present: npt.NDArray[np.bool_], factors: _Numbers, biases: _Numbers
) -> Probabilities:
    logits = np.log(np.maximum(table.astype(np.float64), _TINY)) * factors + biases
    likely = softmax(np.where(np.isnan(table), 0.0, logits), present)
    return np.asarray(np.where(np.isnan(table), np.nan, likely), dtype=np.float32)


def with_temperature(
    table: Probabilities, present: npt.NDArray[np.bool_], temperature: float
) -> Probabilities:
    """Probabilities raised to ``1 / temperature`` and normalised, ``(n, k)``; rows of NaN stay NaN."""
    return table if temperature == 1 else _scaled(table, present, 1 / temperature, 0.0)


def fit_temperature(
    table: Probabilities, answers: npt.NDArray[np.int64], present: npt.NDArray[np.bool_]
) -> float:
    """The temperature with the least log loss, under a log-normal prior around 1.

    Parameters
    ----------
    table : ``(n, k)`` probabilities of questions that the ranker was not trained on.
    answers : ``(n,)`` columns of the right options.
    present : ``(n, k)`` bool.
    """
    logits = np.where(present, np.log(np.maximum(table.astype(np.float64), _TINY)), -np.inf)
    return _best_temperature(logits, answers)


def calibrated_loss(
    logits: npt.NDArray[np.float64], answers: npt.NDArray[np.int64], present: npt.NDArray[np.bool_]
) -> float:
    """Mean log loss in nats at the temperature of `fit_temperature`, from ``(n, k)`` logits."""
    hidden = np.where(present, logits, -np.inf)
    scaled = hidden / _best_temperature(hidden, answers)
    right = scaled[np.arange(len(answers)), answers]
    return float((np.logaddexp.reduce(scaled, axis=1) - right).mean())


def _best_temperature(logits: npt.NDArray[np.float64], answers: npt.NDArray[np.int64]) -> float:
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(answers))

    def cost(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        right = scaled[rows, answers] - np.logaddexp.reduce(scaled, axis=1)
        return float(-right.sum() + 0.5 * (log_temperature / _PRIOR) ** 2)

    found = minimize_scalar(cost, bounds=(np.log(_LEAST), np.log(_MOST)), method="bounded")
    return float(np.exp(found.x))


def fit_vector(
    table: Probabilities, answers: npt.NDArray[np.int64], present: npt.NDArray[np.bool_]
) -> Calibration:
    """Factors and biases by letter with the least log loss, under normal priors around 1 and 0.

    The parameters are those of `fit_temperature`. Options whose order means something are scaled alike, so
    this mends a ranker that favours a letter; where none is favoured, it only has more to overfit.
    """
    from scipy.optimize import minimize

    logits = np.where(present, np.log(np.maximum(table.astype(np.float64), _TINY)), 0.0)
    rows, wide = np.arange(len(answers)), table.shape[1]
    right = np.zeros_like(logits)
    right[rows, answers] = 1.0

    def cost(values: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        factors, biases = np.split(values, 2)
        scaled = np.where(present, logits * factors + biases, -np.inf)
        likely = scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)
        away = values - start
        gap = np.exp(likely) - right
        slope = np.concatenate([(gap * logits).sum(axis=0), gap.sum(axis=0)])
        return float(-likely[rows, answers].sum() + 0.5 * away @ away / _PRIOR**2), slope + away / _PRIOR**2

    start = np.repeat([1.0, 0.0], wide)
    factors, biases = np.split(minimize(cost, start, jac=True, method="L-BFGS-B").x, 2)
    return Calibration(factors=tuple(map(float, factors)), biases=tuple(map(float, biases)))


def fitted_temperature(
    table: Probabilities, answers: npt.NDArray[np.int64], present: npt.NDArray[np.bool_]
) -> Calibration:
    """`fit_temperature` as a calibration."""
    return Calibration(fit_temperature(table, answers, present))


Fit = Callable[[Probabilities, npt.NDArray[np.int64], npt.NDArray[np.bool_]], Calibration]
CALIBRATIONS: dict[str, Fit] = {"temperature": fitted_temperature, "vector": fit_vector}


def cross_fitted(
    table: Probabilities,
    answers: npt.NDArray[np.int64],
    present: npt.NDArray[np.bool_],
    folds: npt.NDArray[np.int64],
    fit: Fit = fitted_temperature,
) -> Probabilities:
    """Each fold with the calibration that was fitted on the other folds, ``(n, k)``."""
    fitted = np.empty_like(table)
    for fold in np.unique(folds):
        out = folds == fold
        fitted[out] = fit(table[~out], answers[~out], present[~out])(table[out], present[out])
    return fitted
