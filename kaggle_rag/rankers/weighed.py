"""The default score: what vectors and words say of each option, weighed by what the question shows.

Vectors tell short terms apart and words long statements, so that no fixed sum serves both. Three things are
added up for an option: `kaggle_rag.rankers.scores.novel`, which only knows vectors; how far one sentence
supports it by its words; and BM25, the more the longer the options are. What the question shows decides how
sure the sum may be. The six weights maximise the likelihood of the right options of questions that no table
reports (``benchmarks/fit_default.py`` fits them and says which).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kaggle_rag.rankers.scores import Scores, Views, bm25, novel, words

# The softmax temperature in which `weighed` is as sure as it is right.
TEMPERATURE = 0.12
# Mean words an option from which words are believed, and from which they are believed whole.
_SHORT, _LONG = 4, 12
# Middles of what a question shows; centred, the weights can be read one by one.
_NEAR, _SUPPORT = 0.7, 0.3


@dataclasses.dataclass(frozen=True)
class Features:
    """What one question shows of its ``k`` options.

    Attributes
    ----------
    dense : ``(k,)`` `novel`.
    support : ``(k,)`` in [0, 1]: see `supported`.
    words : ``(k,)`` BM25 times `length`, which is 0 where options are short.
    near : the greatest cosine of a sentence to the prompt.
    length : in [0, 1]: 0 for options of up to 4 words on average, 1 from 12 on, linear in the logarithm.
    """

    dense: Scores
    support: Scores
    words: Scores
    near: float
    length: float

    @property
    def shown(self) -> Scores:
        """``(3,)``: nearness, support and length, which decide how sure the scores may be."""
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
        sure = self.level + features.shown @ [self.near, self.supported, self.length]
        summed = features.dense + self.support * features.support + self.words * features.words
        return np.asarray(np.exp(sure) * summed, dtype=np.float64)


DEFAULT = Weights(support=0.41, words=0.064, level=2.03, near=0.385, supported=0.16, length=-0.665)


def weighed(q: Views) -> Scores:
    """Vectors and words, weighed by what the question shows; times `TEMPERATURE`, as other scores are."""
    return TEMPERATURE * DEFAULT.logits(features_of(q))


def features_of(q: Views) -> Features:
    """What a question with at least one piece of evidence shows."""
    mean = float(np.mean([len(words(option)) for option in q.option_texts]))
    length = float(np.clip(np.log(max(mean, 1) / _SHORT) / np.log(_LONG / _SHORT), 0, 1))
    told = bm25(q) if length else np.zeros(len(q.option_texts))
    return Features(novel(q), supported(q), length * told, float((q.evidence @ q.prompt).max()), length)


def supported(q: Views) -> Scores:
    """How far one sentence speaks of the question and holds what the option adds to it, by stems.

    Of a sentence: the share of the option's words that it holds and the prompt does not, times the share of
    the prompt's words that it holds, times its cosine to the prompt. The best sentence counts. A sentence
    that only shares words with an option says little, and wrong options are often written so that one does.
    """
    # BM25's own libraries are not wanted by a mistake that is told before any question is read.
    from kaggle_rag.index.lexical import stems

    asked = set(stems(q.prompt_text, q.language))
    options = [set(stems(option, q.language) or words(option)) for option in q.option_texts]
    # With every word as it stands too, for options of stop words alone.
    sentences = [{*stems(text, q.language), *words(text)} for text in q.evidence_texts]
    about = np.maximum(q.evidence @ q.prompt, 0) * [_shared(asked, told) for told in sentences]
    added = [[len((option - asked) & told) / max(len(option), 1) for option in options] for told in sentences]
    return np.asarray((about[:, None] * np.array(added)).max(axis=0), dtype=np.float64)


def _shared(wanted: set[str], there: set[str]) -> float:
    return len(wanted & there) / max(len(wanted), 1)


@dataclasses.dataclass(frozen=True)
class Group:
    """Questions of one kind, which count in a fit as much as every other group, however many they are.

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
        """The features of questions; ``answers`` count the options that are there."""
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
    """The weights of the least mean log loss over the groups, and a penalty on the squares of the last three.

    A conditional logit (McFadden 1974, Conditional logit analysis of qualitative choice behavior) whose
    temperature depends on the question, as that of Guo et al. 2017 (https://arxiv.org/abs/1706.04599) does
    not; by L-BFGS-B.
    """
    from scipy.optimize import minimize

    def loss(w: npt.NDArray[np.float64]) -> float:
        return float(np.mean([_loss(w, group) for group in groups]) + penalty * (w[3:] ** 2).sum())

    start = np.array([0.3, 0.03, 2.0, 0.0, 0.0, 0.0])
    found = minimize(loss, start, method="L-BFGS-B", bounds=[(0, None), (0, None)] + [(None, None)] * 4)
    return Weights(*map(float, found.x))
