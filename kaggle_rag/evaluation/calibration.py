"""Are probabilities as sure as they are right?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.probabilities import Probabilities, ranking
from kaggle_rag.evaluation.metrics import RESAMPLES, Interval

Numbers = npt.NDArray[np.float64]
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
    """The expected calibration error over ten bins, with a 95 % interval.

    The mean over the bins of |accuracy - confidence|, weighed by their questions (the same paper). Chance
    makes it too large, and resamples of the questions larger still: the interval is the basic bootstrap's,
    which takes that difference off (Davison and Hinkley 1997, Bootstrap methods and their application, 5.2).
    It begins at 0 where a ranker as sure as it is right would have such an error too (Bröcker and Smith
    2007, Increasing the reliability of reliability diagrams, https://doi.org/10.1175/WAF993.1).
    """
    confidence, right, places = _binned(table, answers, present)
    count, rng = len(confidence), np.random.default_rng(seed)
    bins = (places == np.arange(_BINS)[:, None]).astype(np.float64)
    gaps = right - confidence
    error = float(np.abs(bins @ gaps).sum() / count)
    even = np.full(count, 1 / count)

    def resampled() -> Numbers:
        return rng.multinomial(count, even, size=_AT_ONCE) * gaps

    def calibrated() -> Numbers:
        return (rng.random((_AT_ONCE, count)) < confidence) - confidence

    def errors_of(draw: Callable[[], Numbers]) -> Numbers:
        # Some at a time, for memory's sake.
        drawn = [np.abs(draw() @ bins.T).sum(axis=1) / count for _ in range(RESAMPLES // _AT_ONCE)]
        return np.concatenate(drawn)

    low, high = 2 * error - np.quantile(errors_of(resampled), [0.975, 0.025])
    if error <= np.quantile(errors_of(calibrated), 0.975):
        low = 0.0
    return Interval(error, max(float(low), 0.0), max(float(high), error))


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
