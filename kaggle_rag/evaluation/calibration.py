"""Are probabilities as sure as they are right? Temperatures that make them so."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.probabilities import Probabilities, softmax

# Temperatures that are tried; beyond them a ranker says nothing, or is a mere ranking.
_LEAST, _MOST = 0.01, 100.0
# Standard deviation of the prior on a temperature's logarithm, which keeps it near 1 on few questions.
_PRIOR = 1.0
_TINY = 1e-12


def with_temperature(
    table: Probabilities, present: npt.NDArray[np.bool_], temperature: float
) -> Probabilities:
    """Probabilities raised to ``1 / temperature`` and normalised, ``(n, k)``; rows of NaN stay NaN.

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599 (temperature scaling: the softmax of logits
    divided by the temperature).
    """
    if temperature == 1:
        return table
    logits = np.log(np.maximum(table.astype(np.float64), _TINY)) / temperature
    sharpened = softmax(np.where(np.isnan(table), 0.0, logits), present)
    return np.asarray(np.where(np.isnan(table), np.nan, sharpened), dtype=np.float32)


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
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(answers))
    logits = np.where(present, np.log(np.maximum(table.astype(np.float64), _TINY)), -np.inf)

    def cost(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        right = scaled[rows, answers] - np.logaddexp.reduce(scaled, axis=1)
        return float(-right.sum() + 0.5 * (log_temperature / _PRIOR) ** 2)

    found = minimize_scalar(cost, bounds=(np.log(_LEAST), np.log(_MOST)), method="bounded")
    return float(np.exp(found.x))


def cross_fitted(
    table: Probabilities,
    answers: npt.NDArray[np.int64],
    present: npt.NDArray[np.bool_],
    folds: npt.NDArray[np.int64],
) -> Probabilities:
    """Each fold with the temperature that was fitted on the other folds, ``(n, k)``."""
    fitted = np.empty_like(table)
    for fold in np.unique(folds):
        out = folds == fold
        temperature = fit_temperature(table[~out], answers[~out], present[~out])
        fitted[out] = with_temperature(table[out], present[out], temperature)
    return fitted
