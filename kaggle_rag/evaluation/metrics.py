"""How good is a ranking, and is one better than another? Plain NumPy, one formula per function."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.probabilities import ranking

Floats = npt.NDArray[np.float64]
RESAMPLES = 2000
# A right option's probability of 0 costs at most this much: -ln(1e-12) = 27.6 nats.
_LEAST = 1e-12
# How many standard errors a difference needs to be found four times out of five at a level of 5 %.
_FOUND = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)
# Rows resampled at once: bounds the memory of a bootstrap over many questions.
_CHUNK = 100


def ranks_of_answers(
    probabilities: npt.ArrayLike, answers: npt.ArrayLike, present: npt.ArrayLike | None = None
) -> npt.NDArray[np.int64]:
    """1-based rank of the right option of each question.

    Equal probabilities are ranked by column, as `kaggle_rag.data.submission.top_letters` writes them.

    Parameters
    ----------
    probabilities : ``(n, k)`` scores, larger is better.
    answers : ``(n,)`` columns of the right options.
    present : ``(n, k)`` bool; an absent option ranks after every present one.
    """
    order = ranking(probabilities, present)
    answers = np.asarray(answers, dtype=np.int64)
    return np.asarray((order == answers[:, None]).argmax(axis=1) + 1, dtype=np.int64)


def average_precision_at_k(ranks: npt.ArrayLike, k: int = 3) -> Floats:
    """AP@k per question with one right option: ``1 / rank`` if ``rank <= k``, else 0.

    Source: Kaggle LLM Science Exam, evaluation page (each label counts once).
    """
    ranks = np.asarray(ranks, dtype=np.float64)
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


def average_precisions(
    probabilities: npt.ArrayLike, answers: npt.ArrayLike, present: npt.ArrayLike, k: int = 3
) -> Floats:
    """AP@k of each question, ``(n,)``, from a table of probabilities, for slices and paired tests."""
    return average_precision_at_k(ranks_of_answers(probabilities, answers, present), k)


def map_at_k(ranks: npt.ArrayLike, k: int = 3) -> float:
    """MAP@k: the mean of `average_precision_at_k`."""
    return float(average_precision_at_k(ranks, k).mean())


def precision_at_k(ranks: npt.ArrayLike, k: int) -> float:
    """Mean precision@k with one right option: ``1 / k`` if it is among the first ``k``, else 0.

    Source: Manning, Raghavan & Schütze 2008, Introduction to Information Retrieval, section 8.4.
    """
    return float((np.asarray(ranks) <= k).mean() / k)


def accuracy(ranks: npt.ArrayLike) -> float:
    """Share of questions whose right option is ranked first."""
    return float((np.asarray(ranks) == 1).mean())


def log_losses(probabilities: npt.ArrayLike, answers: npt.NDArray[np.int64]) -> Floats:
    """Minus the logarithm of the right option's probability, of each question, ``(n,)`` in nats."""
    table = np.asarray(probabilities, dtype=np.float64)
    return -np.log(np.maximum(table[np.arange(len(answers)), answers], _LEAST))


def chance_map_at_k(options_per_question: npt.ArrayLike, k: int = 3) -> float:
    """Expected MAP@k of a random order: the mean over questions of ``sum_{r<=min(k,m)} 1/(r m)``."""
    sizes = np.asarray(options_per_question, dtype=np.int64)
    return float(np.mean([sum(1 / r for r in range(1, min(k, m) + 1)) / m for m in sizes]))


def recall_at_k(found: Sequence[object], relevant: Collection[object], k: int) -> float:
    """Share of the relevant items among the first ``k`` found (1.0 if nothing is relevant)."""
    if not relevant:
        return 1.0
    return len(set(found[:k]) & set(relevant)) / len(relevant)


def ndcg_at_k(found: Sequence[object], gains: Mapping[object, float], k: int = 10) -> float:
    """nDCG@k with linear gains and a log2 discount, as trec_eval's ``ndcg_cut`` computes it.

    Source: Järvelin & Kekäläinen 2002, https://doi.org/10.1145/582415.582418.
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    got = np.array([gains.get(item, 0.0) for item in found[:k]])
    best = np.sort(np.array(list(gains.values()), dtype=np.float64))[::-1][:k]
    ideal = float((best * discounts[: len(best)]).sum())
    return float((got * discounts[: len(got)]).sum()) / ideal if ideal > 0 else 0.0


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    values: npt.ArrayLike, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean of per-question values.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    values = np.asarray(values, dtype=np.float64)
    means = _resampled_means(values, resamples, seed)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(values.mean()), float(low), float(high))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How much better one ranking is than another on the same questions.

    Attributes
    ----------
    smallest : the difference that such a comparison detects four times out of five, whatever it was here;
        ``None`` where nothing tells it.
    """

    difference: Interval
    p_value: float
    smallest: float | None

    @property
    def distinguishable(self) -> bool:
        return self.difference.low > 0 or self.difference.high < 0

    def __str__(self) -> str:
        suffix = "" if self.distinguishable else ", not distinguishable"
        gap = self.difference
        return f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] (p = {self.p_value:.3f}{suffix})"


def paired_bootstrap(
    ours: npt.ArrayLike, theirs: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Comparison:
    """Interval and two-sided p-value of the mean difference of paired per-question values.

    The p-value is that of the shift method: how often the resampled, centred difference is at
    least as far from zero as the observed one. Source: Efron & Tibshirani 1993, section 16.4.
    """
    gaps = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    means = _resampled_means(gaps, resamples, seed)
    observed = gaps.mean()
    extreme = np.abs(means - observed) >= abs(observed) - 1e-12
    return Comparison(
        bootstrap(gaps, resamples=resamples, seed=seed),
        float((extreme.sum() + 1) / (resamples + 1)),
        detectable_difference(gaps),
    )


def detectable_difference(gaps: npt.ArrayLike) -> float | None:
    """The mean difference that such differences by question would show four times out of five.

    At a level of 5 %, two-sided, from their standard error: Card et al. 2020, With little power comes great
    responsibility, https://arxiv.org/abs/2010.06595. ``None`` for a single question, or for no difference.
    """
    gaps = np.asarray(gaps, dtype=np.float64)
    if len(gaps) < 2 or not gaps.any():
        return None
    return float(_FOUND * gaps.std(ddof=1) / np.sqrt(len(gaps)))


def paired_over_seeds(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> Comparison:
    """The same for two ways of training, each with several seeds: would other seeds and questions agree?

    Parameters
    ----------
    ours, theirs : ``(seeds, n)`` values by question, two seeds of each at least; they need not be the same.
    """
    one, other = (np.asarray(each, dtype=np.float64) for each in (ours, theirs))
    means = [each.mean(axis=1) for each in (one, other)]
    return paired_with_seeds(one.mean(axis=0), other.mean(axis=0), means)


def paired_with_seeds(
    ours: npt.ArrayLike, theirs: npt.ArrayLike, by_seed: Sequence[npt.ArrayLike]
) -> Comparison:
    """The same for two results that are means over seeds, from what each seed alone has.

    The standard error has the spread over questions of the mean difference, and that over seeds of both
    means; the interval is Student's t, with the degrees of freedom of Welch 1947
    (https://doi.org/10.1093/biomet/34.1-2.28). Why seeds belong in it: Bouthillier et al. 2021, Accounting
    for variance in machine learning benchmarks, https://arxiv.org/abs/2103.03098.

    Parameters
    ----------
    ours, theirs : ``(n,)`` values by question.
    by_seed : of each result, the mean value of each seed, ``(seeds,)``; fewer than two tell nothing of seeds.
    """
    from scipy.stats import t

    gaps = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    spreads = [means for each in by_seed if len(means := np.asarray(each, dtype=np.float64)) > 1]
    # A single question tells nothing of others.
    parts = [(float(x.var(ddof=1)) / len(x), len(x) - 1) for x in (gaps, *spreads) if len(x) > 1]
    variance = sum(part for part, _ in parts)
    mean, error = float(gaps.mean()), float(np.sqrt(variance))
    if not error:
        return Comparison(Interval(mean, mean, mean), float(not mean), None)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    low, high = mean + error * t.ppf([0.025, 0.975], freedom)
    p_value = float(2 * t.sf(abs(mean) / error, freedom))
    smallest = float(error * (t.ppf(0.975, freedom) + t.ppf(0.8, freedom)))
    return Comparison(Interval(mean, float(low), float(high)), p_value, smallest)


def _resampled_means(values: Floats, resamples: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for start in range(0, resamples, _CHUNK):
        rows = rng.integers(0, len(values), (min(_CHUNK, resamples - start), len(values)))
        means[start : start + len(rows)] = values[rows].mean(axis=1)
    return means
