"""How good is an answer in words? Plain NumPy, one formula per function.

Texts are compared as the official evaluation of SQuAD does (Rajpurkar et al. 2016,
https://arxiv.org/abs/1606.05250): in lower case, without punctuation and English articles. Of several right
answers the best counts. The right answer ``""`` means that there is none: only an empty answer is right then.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Weights = npt.NDArray[np.float64]
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def tokens_of(text: str) -> list[str]:
    """The words of a text in lower case, without ASCII punctuation and the articles a, an and the."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """1 if the tokens of the answer are those of a right answer, else 0."""
    given = tokens_of(answer)
    return float(any(given == gold for gold in _golds(golds)))


def token_f1(answer: str, golds: Sequence[str]) -> float:
    """The harmonic mean of precision and recall of the answer's tokens, by the best right answer.

    Where one of the two has no tokens, 1 if neither has any.
    """
    given = tokens_of(answer)
    return max(_f1(given, gold) for gold in _golds(golds))


def contains(answer: str, golds: Sequence[str]) -> float:
    """1 if the answer holds a right answer: its tokens, one after the other, among those of the answer.

    The accuracy of Mallen et al. 2023 (https://arxiv.org/abs/2212.10511), by whole tokens: "ten" is not in
    "often". A right answer without tokens is only in an answer without any.
    """
    given = tokens_of(answer)
    return float(any(_holds(given, gold) for gold in _golds(golds)))


def unsupported(answer: str, snippets: Iterable[str]) -> float:
    """The share of the answer's tokens that no snippet holds; NaN for an answer without tokens.

    One minus the K-Precision of Adlakha et al. 2024 (https://arxiv.org/abs/2307.16877), where a token may be
    taken from the evidence as often as the answer has it.
    """
    given, known = tokens_of(answer), {token for text in snippets for token in tokens_of(text)}
    return sum(token not in known for token in given) / len(given) if given else float("nan")


def _golds(golds: Sequence[str]) -> list[list[str]]:
    """The tokens of the right answers; those that normalisation leaves empty count only if all are so."""
    if not golds:
        raise ValueError("a question without a right answer cannot be scored")
    return [tokens for gold in golds if (tokens := tokens_of(gold))] or [[]]


def _f1(given: list[str], gold: list[str]) -> float:
    if not given or not gold:
        return float(given == gold)
    shared = sum((Counter(given) & Counter(gold)).values())
    return 2 * shared / (len(given) + len(gold))


def _holds(given: list[str], gold: list[str]) -> bool:
    if not gold:
        return not given
    return any(given[at : at + len(gold)] == gold for at in range(len(given) - len(gold) + 1))


class BertScore(NamedTuple):
    """Precision, recall and F1, each the higher the better, at most 1."""

    precision: float
    recall: float
    f1: float


def bert_score(
    answer: Vectors, gold: Vectors, answer_weights: Weights | None = None, gold_weights: Weights | None = None
) -> BertScore:
    """How well the tokens of an answer and of a right answer match one another.

    Each token is matched greedily by the most similar one of the other text: precision is the weighted mean
    over the answer's tokens of their largest cosine, recall that over the right answer's. Zhang et al. 2020
    (https://arxiv.org/abs/1904.09675), section 3, without their rescaling by a baseline. Two texts without
    tokens match, one does not.

    Parameters
    ----------
    answer, gold : ``(tokens, d)`` float32 unit vectors.
    answer_weights, gold_weights : ``(tokens,)``, see `inverse_frequencies` (default: all equal).
    """
    if not len(answer) or not len(gold):
        return BertScore(*[float(len(answer) == len(gold))] * 3)
    cosines = answer @ gold.T
    precision = _mean(cosines.max(axis=1), answer_weights)
    recall = _mean(cosines.max(axis=0), gold_weights)
    both = precision + recall
    return BertScore(precision, recall, 2 * precision * recall / both if both else 0.0)


def inverse_frequencies(texts: Sequence[Iterable[int]]) -> Mapping[int, float]:
    """The weight of each token of the right answers: ``-ln((1 + how many of them hold it) / (1 + n))``.

    Zhang et al. 2020, section 3, with their smoothing; a token of none of them weighs ``ln(1 + n)``.
    """
    count = Counter(token for text in texts for token in set(text))
    return _Weights(
        {token: float(np.log((1 + len(texts)) / (1 + held))) for token, held in count.items()},
        float(np.log(1 + len(texts))),
    )


class _Weights(dict[int, float]):
    """Weights of tokens, with one for the tokens that it does not have."""

    def __init__(self, known: Mapping[int, float], other: float) -> None:
        super().__init__(known)
        self.other = other

    def __missing__(self, token: int) -> float:
        return self.other


def _mean(values: Vectors, weights: Weights | None) -> float:
    """The weighted mean; equal weights where all are 0, as those of what every right answer holds."""
    used = weights if weights is not None and weights.any() else None
    return float(np.average(values.astype(np.float64), weights=used))
