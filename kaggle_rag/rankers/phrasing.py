"""How options are written, and nothing else: a few counts of their words, weighted by what train shows.

Whoever writes a question gives the right option away now and then: it is the longest, it has few words of
the question, it is like the others, it does not say "always". Models that read no question at all are well
above chance for that reason (Gururangan et al. 2018, Annotation artifacts in natural language inference data,
https://aclanthology.org/N18-2017; Balepur et al. 2024, Artifacts or abduction, https://aclanthology.org/2024.acl-long.555).
The counts differ from competition to competition, so there are no default weights: `fit` takes a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.contexts import QuestionContexts
from kaggle_rag.data.probabilities import Probabilities, softmax
from kaggle_rag.data.questions import Questions
from kaggle_rag.rankers.base import Note
from kaggle_rag.runtime.errors import ConfigError, InputError
from kaggle_rag.text.normalise import words

Floats = npt.NDArray[np.float64]
# Words that leave no exception, in English.
_ABSOLUTE = {"all", "always", "any", "every", "never", "no", "none", "not", "only"}
_CURE = "python -m training phrasing --questions TRAIN prints them, or cross-validate it"


def _lengths(options: Sequence[str], prompt: set[str]) -> Floats:
    logs = np.log1p([len(option) for option in options])
    return np.asarray(logs - logs.mean(), dtype=np.float64)


def _extreme(options: Sequence[str], sign: int) -> Floats:
    lengths = sign * np.array([len(option) for option in options])
    longest = lengths == lengths.max()
    # Of two that are alike, neither stands out.
    return np.asarray(longest & (longest.sum() == 1), dtype=np.float64)


def _echoes(options: Sequence[str], prompt: set[str]) -> Floats:
    own = [set(words(option.lower())) for option in options]
    return np.array([len(each & prompt) / max(len(each), 1) for each in own])


def _alike(options: Sequence[str], prompt: set[str]) -> Floats:
    own = [set(words(option.lower())) for option in options]
    shared = np.array([[len(a & b) / max(len(a | b), 1) for b in own] for a in own])
    np.fill_diagonal(shared, 0)
    means = shared.sum(axis=1) / max(len(options) - 1, 1)
    return np.asarray(means - means.mean(), dtype=np.float64)


# By name: of the options that exist and the words of the prompt, a number for each option, ``(k,)``.
FEATURES: dict[str, Callable[[Sequence[str], set[str]], Floats]] = {
    "length": _lengths,
    "longest": lambda options, prompt: _extreme(options, 1),
    "shortest": lambda options, prompt: _extreme(options, -1),
    "echoes": _echoes,
    "alike": _alike,
    "absolute": lambda options, prompt: np.array(
        [float(bool(_ABSOLUTE.intersection(words(option.lower())))) for option in options]
    ),
    "digits": lambda options, prompt: np.array(
        [float(any(letter.isdigit() for letter in option)) for option in options]
    ),
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
        options = [option for option in question.options if option is not None]
        prompt = set(words(question.prompt.lower()))
        columns = [feature(options, prompt) for feature in FEATURES.values()]
        out[row, present[row]] = np.stack(columns, axis=1)
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


class PhrasingRanker:
    """Ranks options by how they are written.

    Parameters
    ----------
    weights : of ``FEATURES`` by name, as `fit` finds them; those left out count nothing.
    """

    notes: Sequence[Note] = ()

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

    def __enter__(self) -> PhrasingRanker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held."""

    def probabilities(
        self, questions: Questions, contexts: Sequence[QuestionContexts | None] | None
    ) -> Probabilities:
        """See `kaggle_rag.rankers.base.Ranker`; contexts are not read."""
        return softmax(features_of(questions) @ self.weights, questions.present)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))
