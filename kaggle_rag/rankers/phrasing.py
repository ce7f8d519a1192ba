"""How options are written, and nothing else: a few counts of their words, weighted by what train shows.

Whoever writes a question gives the right option away now and then: it is the longest, it has few words of
the question, it is like the others, it does not say "always". Models that read no question at all can be
above chance for that reason (Gururangan et al. 2018, Annotation artifacts in natural language inference data,
https://aclanthology.org/N18-2017; Balepur et al. 2024, Artifacts or abduction, https://aclanthology.org/2024.acl-long.555).
The counts differ from competition to competition, so there are no default weights: `fit` takes a second.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.contexts import QuestionContexts
from kaggle_rag.data.probabilities import Probabilities, softmax
from kaggle_rag.data.questions import Question, Questions
from kaggle_rag.evaluation.duplicates import find_duplicates
from kaggle_rag.evaluation.folds import group, group_folds
from kaggle_rag.rankers.base import HoldsNothing
from kaggle_rag.runtime.errors import ConfigError, InputError
from kaggle_rag.text.normalise import words

Floats = npt.NDArray[np.float64]
# Words that leave no exception, in English.
_ABSOLUTE = {"all", "always", "any", "every", "never", "no", "none", "not", "only"}
_CURE = "python -m training phrasing --questions TRAIN prints them; cross-validate --final fits them too"


class Written(NamedTuple):
    """The options of a question that exist, as they are and as sets of words, and the words of its prompt."""

    options: list[str]
    words: list[set[str]]
    prompt: set[str]

    @classmethod
    def of(cls, question: Question) -> Written:
        options = [option for option in question.options if option is not None]
        return cls(options, [set(words(option)) for option in options], set(words(question.prompt)))


def _length(q: Written) -> Floats:
    logs = np.log1p([len(option) for option in q.options])
    return np.asarray(logs - logs.mean(), dtype=np.float64)


def _extreme(q: Written, sign: int) -> Floats:
    lengths = sign * np.array([len(option) for option in q.options])
    longest = lengths == lengths.max()
    # Of two that are alike, neither stands out.
    return np.asarray(longest & (longest.sum() == 1), dtype=np.float64)


def _echoes(q: Written) -> Floats:
    return np.array([len(each & q.prompt) / max(len(each), 1) for each in q.words])


def _alike(q: Written) -> Floats:
    shared = np.zeros((len(q.words), len(q.words)))
    for left, right in itertools.combinations(range(len(q.words)), 2):
        both = len(q.words[left] & q.words[right])
        whole = len(q.words[left]) + len(q.words[right]) - both
        shared[left, right] = shared[right, left] = both / max(whole, 1)
    means = shared.sum(axis=1) / max(len(q.words) - 1, 1)
    return np.asarray(means - means.mean(), dtype=np.float64)


def _absolute(q: Written) -> Floats:
    return np.array([float(not _ABSOLUTE.isdisjoint(each)) for each in q.words])


def _digits(q: Written) -> Floats:
    return np.array([float(any(map(str.isdigit, option))) for option in q.options])


# By name: a number for each option that exists, ``(k,)``.
FEATURES: dict[str, Callable[[Written], Floats]] = {
    "length": _length,
    "longest": functools.partial(_extreme, sign=1),
    "shortest": functools.partial(_extreme, sign=-1),
    "echoes": _echoes,
    "alike": _alike,
    "absolute": _absolute,
    "digits": _digits,
}


def features_of(questions: Questions) -> Floats:
    """``(n, k, f)`` in the order of ``FEATURES``; 0 for options that do not exist.

    length : the logarithm of its characters, less the question's mean.
    longest, shortest : 1 for the one option that is.
    echoes : the share of its words that the prompt has.
    alike : the mean share of words in common with the other options, less the question's mean.
    absolute, digits : 1 for an option with such a word ("never", "all"; English), or with a digit.
    """
    present = questions.present
    out = np.zeros((*present.shape, len(FEATURES)))
    for row, question in enumerate(questions):
        written = Written.of(question)
        out[row, present[row]] = np.stack([feature(written) for feature in FEATURES.values()], axis=1)
    return out


def fit(questions: Questions, *, penalty: float = 1.0) -> dict[str, float]:
    """The weights under which the right options are likeliest, by the name of their feature.

    A conditional logit (McFadden 1974, Conditional logit analysis of qualitative choice behavior) with
    ``penalty`` times the squared weights added to the summed log loss; fitted by L-BFGS.

    Raises
    ------
    InputError : no questions, or one without an answer.
    """
    from scipy.optimize import minimize

    answers, present = questions.answers, questions.present
    if not len(answers) or (answers < 0).any():
        raise InputError(
            "weights are fitted on answers" if len(answers) else "there are no questions to fit weights on",
            expected="questions with answers",
        )
    features = features_of(questions)
    right = features[np.arange(len(answers)), answers]

    def loss(weights: Floats) -> tuple[float, Floats]:
        logits = np.where(present, features @ weights, -np.inf)
        highest = logits.max(axis=1, keepdims=True)
        likely = np.exp(logits - highest)
        total = likely.sum(axis=1, keepdims=True)
        losses = highest[:, 0] + np.log(total[:, 0]) - right @ weights
        slope = (likely / total)[:, :, None] * features
        return (
            float(losses.sum() + penalty * weights @ weights),
            slope.sum(axis=(0, 1)) - right.sum(axis=0) + 2 * penalty * weights,
        )

    found = minimize(loss, np.zeros(len(FEATURES)), jac=True, method="L-BFGS-B").x
    return {name: round(float(weight), 4) for name, weight in zip(FEATURES, found)}


def out_of_fold(questions: Questions, folds: int = 5, seed: int = 0) -> Probabilities:
    """``(n, k)``: each question's probabilities by weights of the other folds; near-duplicates share one.

    Raises
    ------
    ConfigError : fewer than two folds, or fewer groups of near-duplicates than folds.
    """
    groups = group(len(questions), find_duplicates(questions)).labels
    places = group_folds(groups, questions.answers, folds, seed)
    table = np.empty(questions.present.shape, dtype=np.float32)
    for fold in range(folds):
        others, own = (questions.take(np.flatnonzero(rows)) for rows in (places != fold, places == fold))
        table[places == fold] = PhrasingRanker(fit(others)).probabilities(own, None)
    return table


class PhrasingRanker(HoldsNothing):
    """Ranks options by how they are written.

    Parameters
    ----------
    weights : of ``FEATURES`` by name, as `fit` finds them; those left out count nothing.
    """

    def __init__(self, weights: dict[str, float] | None = None) -> None:
        where = "rankers.options.weights"
        if not weights:
            raise ConfigError("the ranker 'phrasing' has no weights", where=where, cure=_CURE)
        expected = "a weight each of " + ", ".join(FEATURES)
        if not isinstance(weights, Mapping):
            raise ConfigError(f"cannot be {weights!r}", where=where, expected=expected, cure=_CURE)
        if unknown := [name for name in weights if name not in FEATURES]:
            raise ConfigError(f"no feature {unknown[0]!r}", where=where, expected=expected, cure=_CURE)
        if bad := [name for name, weight in weights.items() if not _is_number(weight)]:
            raise ConfigError(
                f"cannot be {weights[bad[0]]!r}", where=f"{where}.{bad[0]}", expected="a number", cure=_CURE
            )
        self.weights = np.array([float(weights.get(name, 0.0)) for name in FEATURES])

    @staticmethod
    def fitted(questions: Questions) -> dict[str, Any]:
        """The options with which it has learnt from these questions."""
        return {"weights": fit(questions)}

    def probabilities(
        self, questions: Questions, contexts: Sequence[QuestionContexts | None] | None
    ) -> Probabilities:
        """See `kaggle_rag.rankers.base.Ranker`; contexts are not read."""
        return softmax(features_of(questions) @ self.weights, questions.present)


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
