"""Are probabilities as sure as they are right?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.probabilities import Probabilities, ranking
from kaggle_rag.evaluation.metrics import RESAMPLES, Interval

_BINS = 10
# Resamples drawn together.
_AT_ONCE = 50


@dataclasses.dataclass(frozen=True)
class Bin:
    """Questions whose likeliest option has a probability from ``low`` to ``high``.

    ``confidence`` is the mean of that probability, ``accuracy`` the share of right answers; both are 0 in
    an empty bin.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(
    table: Probabilities, answers: npt.NDArray[np.int64], present: npt.NDArray[np.bool_]
) -> tuple[Bin, ...]:
    """Ten equal bins of the likeliest option's probability; none without questions.

    Source: Guo et al. 2017, On calibration of modern neural networks, https://arxiv.org/abs/1706.04599.
    """
    if not len(answers):
        return ()
    confidence, right, places = _binned(table, answers, present)
    bins = []
    for place in range(_BINS):
        here = places == place
        means = (float(confidence[here].mean()), float(right[here].mean())) if here.any() else (0.0, 0.0)
        bins.append(Bin(place / _BINS, (place + 1) / _BINS, int(here.sum()), *means))
    return tuple(bins)


def calibration_error(
    table: Probabilities, answers: npt.NDArray[np.int64], present: npt.NDArray[np.bool_], *, seed: int = 0
) -> Interval:
    """The expected calibration error over ten bins, with its 95 % bootstrap interval.

    The mean over the bins of |accuracy - confidence|, weighed by their questions (the same paper). On few
    questions even a perfect ranker has some: compare it only between rankers of the same questions.
    """
    confidence, right, places = _binned(table, answers, present)
    gaps = right - confidence
    # One row a bin: the gap of each question in its own.
    spread = np.zeros((_BINS, len(gaps)))
    spread[places, np.arange(len(gaps))] = gaps
    rng, even = np.random.default_rng(seed), np.full(len(gaps), 1 / len(gaps))
    errors = [
        # How often each question is drawn; some resamples at a time, for memory's sake.
        np.abs(rng.multinomial(len(gaps), even, size=_AT_ONCE) @ spread.T).sum(axis=1) / len(gaps)
        for _ in range(RESAMPLES // _AT_ONCE)
    ]
    low, high = np.quantile(errors, [0.025, 0.975])
    return Interval(float(np.abs(spread.sum(axis=1)).sum() / len(gaps)), float(low), float(high))


def reliability_lines(bins: Sequence[Bin]) -> list[str]:
    """A table for reading, without the empty bins."""
    lines = [f"{'probability':<14}{'questions':>9}{'confidence':>12}{'accuracy':>10}"]
    for each in bins:
        if each.count:
            span = f"{each.low:.1f} to {each.high:.1f}"
            lines.append(f"{span:<14}{each.count:>9,}{each.confidence:>12.3f}{each.accuracy:>10.3f}")
    return lines


def _binned(
    table: Probabilities, answers: npt.NDArray[np.int64], present: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Of each question the likeliest option's probability, whether it is right, and the bin, ``(n,)``."""
    first = ranking(table, present)[:, 0]
    confidence = table[np.arange(len(table)), first].astype(np.float64)
    places = np.clip((confidence * _BINS).astype(np.int64), 0, _BINS - 1)
    return confidence, np.asarray(first == answers, dtype=bool), places
