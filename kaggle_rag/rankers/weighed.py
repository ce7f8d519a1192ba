"""The default score: vectors and words for each option, weighted by features of the question.

Vectors distinguish short terms and words long statements, so no fixed sum suits both. An option's score adds
up three things: `kaggle_rag.rankers.scores.novel`, which uses only vectors; how well one sentence supports it
by its words; and BM25, weighted more the longer the options are. Features of the question decide how
confident the sum may be. The six weights maximise the likelihood of the right options on questions that no
table reports (``benchmarks/fit_default.py`` fits them and says which).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kaggle_rag.rankers.scores import Scores, Views, bm25, novel, words

# The softmax temperature at which `weighed` is calibrated.
TEMPERATURE = 0.12
# Mean words per option from which words count, and from which they count fully.
_SHORT, _LONG = 4, 12
# Centres of the question's features; centred, the weights can be read one by one.
_NEAR, _SUPPORT = 0.7, 0.3


@dataclasses.dataclass(frozen=True)
class Features:
    """The features of one question with ``k`` options.

    Attributes
    ----------
    dense : ``(k,)`` `novel`.
    support : ``(k,)`` in [0, 1]: see `supported`.
    words : ``(k,)`` BM25 times `length`, which is 0 for short options.
    near : the highest cosine of a sentence with the prompt.
    length : in [0, 1]: 0 for options of up to 4 words on average, 1 from 12 on, linear in the logarithm.
    """

    dense: Scores
    support: Scores
    words: Scores
    near: float
    length: float

    @property
    def shown(self) -> Scores:
        """``(3,)``: nearness, support and length, which decide how confident the scores may be."""
        return np.array([self.near - _NEAR, self.support.max() - _SUPPORT, self.length])


@dataclasses.dataclass(frozen=True)
class Weights:
    """``exp(level + near * … + supported * … + length * …)`` times ``dense + support * … + words * …``."""

    support: float
    words: float
    level: float
    near: float
    supported: float
    length: float

    def logits(self, features: Features) -> Scores:
        """``(k,)``; their softmax is the probability of each option."""
        confidence = self.level + features.shown @ [self.near, self.supported, self.length]
        summed = features.dense + self.support * features.support + self.words * features.words
        return np.asarray(np.exp(confidence) * summed, dtype=np.float64)


DEFAULT = Weights(support=0.41, words=0.064, level=2.03, near=0.385, supported=0.16, length=-0.665)


def weighed(q: Views) -> Scores:
    """Vectors and words, weighted by features of the question; times `TEMPERATURE`, as other scores are."""
    return TEMPERATURE * DEFAULT.logits(features_of(q))


def features_of(q: Views) -> Features:
    """The features of a question with at least one piece of evidence."""
    mean = float(np.mean([len(words(option)) for option in q.option_texts]))
    length = float(np.clip(np.log(max(mean, 1) / _SHORT) / np.log(_LONG / _SHORT), 0, 1))
    matches = bm25(q) if length else np.zeros(len(q.option_texts))
    return Features(novel(q), supported(q), length * matches, float((q.evidence @ q.prompt).max()), length)


def supported(q: Views) -> Scores:
    """How well one sentence is about the question and contains what the option adds to it, by stems.

    For a sentence: the share of the option's words that it contains and the prompt does not, times the share
    of the prompt's words that it contains, times its cosine with the prompt. The best sentence counts. Merely
    sharing words with an option says little, and wrong options are often written to share some.
    """
    # Imported late: an error reported before any question is read must not wait for BM25's libraries.
    from kaggle_rag.index.lexical import stems

    prompt = set(stems(q.prompt_text, q.language))
    options = [set(stems(option, q.language) or words(option)) for option in q.option_texts]
    # Including every unstemmed word, for options of stop words alone.
    sentences = [{*stems(text, q.language), *words(text)} for text in q.evidence_texts]
    about = np.maximum(q.evidence @ q.prompt, 0) * [_share(prompt, sentence) for sentence in sentences]
    added = [[len((each - prompt) & held) / max(len(each), 1) for each in options] for held in sentences]
    return np.asarray((about[:, None] * np.array(added)).max(axis=0), dtype=np.float64)


def _share(wanted: set[str], available: set[str]) -> float:
    return len(wanted & available) / max(len(wanted), 1)


@dataclasses.dataclass(frozen=True)
class Group:
    """Questions of one kind; every group counts the same in a fit, however many questions it has.

    Attributes
    ----------
    options : ``(n, k, 3)`` dense, support and words; NaN where a question has no such option.
    shown : ``(n, 3)``.
    answers : ``(n,)`` int, the column of the right option.
    """

    options: npt.NDArray[np.float64]
    shown: npt.NDArray[np.float64]
    answers: npt.NDArray[np.int64]

    @classmethod
    def of(cls, features: Sequence[Features], answers: Sequence[int]) -> Group:
        """The features of questions; ``answers`` count only the options that exist."""
        options = np.full((len(features), max(len(each.dense) for each in features), 3), np.nan)
        for row, each in enumerate(features):
            options[row, : len(each.dense)] = np.stack([each.dense, each.support, each.words], axis=1)
        return cls(options, np.array([each.shown for each in features]), np.array(answers, dtype=np.int64))


def log_loss(weights: Weights, group: Group) -> float:
    """Mean of ``-log p`` of the right options, in nats."""
    return _loss(np.array(dataclasses.astuple(weights)), group)


def _loss(w: npt.NDArray[np.float64], group: Group) -> float:
    scale = np.exp(w[2] + group.shown @ w[3:])
    logits = scale[:, None] * (group.options @ np.r_[1, w[:2]])
    logits = np.where(np.isnan(logits), -np.inf, logits)
    highest = logits.max(axis=1)
    whole = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return float((whole - logits[np.arange(len(logits)), group.answers]).mean())


def fit(groups: Sequence[Group], *, penalty: float = 0.003) -> Weights:
    """The weights with the least mean log loss over the groups plus a penalty on the squared last three.

    A conditional logit (McFadden 1974, Conditional logit analysis of qualitative choice behavior) whose
    temperature depends on the question, unlike that of Guo et al. 2017 (https://arxiv.org/abs/1706.04599);
    fitted by L-BFGS-B.
    """
    from scipy.optimize import minimize

    def loss(w: npt.NDArray[np.float64]) -> float:
        return float(np.mean([_loss(w, group) for group in groups]) + penalty * (w[3:] ** 2).sum())

    start = np.array([0.3, 0.03, 2.0, 0.0, 0.0, 0.0])
    result = minimize(loss, start, method="L-BFGS-B", bounds=[(0, None), (0, None)] + [(None, None)] * 4)
    return Weights(*map(float, result.x))
