"""The best candidates of many contexts read by a cross-encoder together, as one list of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from kaggle_rag.retrieval.candidates import Candidates
from kaggle_rag.retrieval.queries import Query

if TYPE_CHECKING:
    from kaggle_rag.retrieval.crossencoder import CrossEncoder

Scores = npt.NDArray[np.float64]


class Asked(NamedTuple):
    """The queries of one context and what was found for them."""

    queries: Sequence[Query]
    candidates: Candidates


def reread(
    reranker: CrossEncoder, asked: Sequence[Asked], scores: Sequence[Scores], most: int
) -> list[Scores]:
    """Scores ``(m,)`` float64 of each context's candidates; the ``most`` best by the cross-encoder.

    The others stay behind them, in their order. The first of a context's queries is read: with all
    options, or in an option's context with that option. All pairs are sorted by length together, so a
    batch of the model is full and hardly padded, and a pair that occurs twice is read once.
    """
    best = [np.argsort(-own, kind="stable")[:most] for own in scores]
    pairs = [
        [(queries[0].text, candidates.text(int(position))) for position in chosen]
        for (queries, candidates), chosen in zip(asked, best)
    ]
    places = {pair: place for place, pair in enumerate(dict.fromkeys(p for some in pairs for p in some))}
    read = reranker.scores([query for query, _ in places], [text for _, text in places])
    return [
        _behind(own, chosen, read[[places[pair] for pair in some]]) if len(chosen) else own
        for own, chosen, some in zip(scores, best, pairs)
    ]


def _behind(scores: Scores, best: npt.NDArray[np.int64], read: npt.NDArray[np.float32]) -> Scores:
    """``read`` at the best places, and below all of it the other scores in their order."""
    reread = read.min() - 1 - (scores.max() - scores)
    reread[best] = read
    return np.asarray(reread, dtype=np.float64)
