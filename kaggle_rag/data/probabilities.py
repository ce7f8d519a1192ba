"""Tables of probabilities, the softmax that makes them, and the rankings they give."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def softmax(scores: npt.ArrayLike, present: npt.ArrayLike) -> Probabilities:
    """Softmax over the present options of each row, ``(n, k)`` float32; absent options get 0."""
    scores = np.where(np.asarray(present, dtype=bool), np.asarray(scores, dtype=np.float64), -np.inf)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def ranking(probabilities: npt.ArrayLike, present: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
    """Columns of each row from most to least likely, ``(n, k)``; ties in column order."""
    scores = np.array(probabilities, dtype=np.float64)
    if present is not None:
        scores[~np.asarray(present, dtype=bool)] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")


Probabilities = npt.NDArray[np.float32]
