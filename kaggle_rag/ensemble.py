"""Blend the probabilities of several rankers into one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from kaggle_rag.errors import ConfigError

Probabilities = npt.NDArray[np.float32]


def by_probability(table: Probabilities) -> npt.NDArray[np.float64]:
    """The probabilities themselves: a sure ranker speaks louder than an unsure one."""
    return table.astype(np.float64)


def by_rank(table: Probabilities) -> npt.NDArray[np.float64]:
    """Reciprocal ranks: only the order counts, so differently calibrated rankers mix evenly."""
    return np.asarray(1.0 / rankdata(-table, axis=1, method="average"), dtype=np.float64)


RULES: dict[str, Callable[[Probabilities], npt.NDArray[np.float64]]] = {
    "probabilities": by_probability,
    "ranks": by_rank,
}


def blend(
    tables: Sequence[Probabilities],
    weights: Sequence[float],
    present: npt.NDArray[np.bool_],
    rule: str = "probabilities",
) -> Probabilities:
    """Weighted mean of the rankers' tables, absent options at 0, each row summing to 1.

    Parameters
    ----------
    tables : one ``(n, k)`` float32 table a ranker.
    weights : one number a ranker, none negative, not all zero.
    present : ``(n, k)`` bool.
    rule : a key of ``RULES``.
    """
    if rule not in RULES:
        raise ConfigError(f"no blending rule {rule!r}", expected="one of " + ", ".join(RULES))
    if len(tables) != len(weights) or min(weights) < 0 or sum(weights) <= 0:
        raise ConfigError(
            f"weights {list(weights)} for {len(tables)} rankers",
            expected="one weight a ranker, none negative, not all zero",
        )
    mixed = np.zeros(present.shape, dtype=np.float64)
    for table, weight in zip(tables, weights):
        mixed += weight * np.where(present, RULES[rule](np.where(present, table, -1.0)), 0.0)
    return np.asarray(mixed / mixed.sum(axis=1, keepdims=True), dtype=np.float32)


def softmax(scores: npt.ArrayLike, present: npt.ArrayLike) -> Probabilities:
    """Softmax over the present options of each row, ``(n, k)`` float32; absent options get 0."""
    scores = np.where(np.asarray(present, dtype=bool), np.asarray(scores, dtype=np.float64), -np.inf)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
