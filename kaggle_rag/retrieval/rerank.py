"""Exact distances of candidates, and the nearest without near-duplicates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kaggle_rag.index.vectors import Vectors

Distances = npt.NDArray[np.float64]


def exact_distances(queries: Vectors, candidates: Vectors) -> Distances:
    """L2 distances ``(q, m)`` float64 between queries ``(q, d)`` and candidates ``(m, d)``.

    In double precision by scipy's ``cdist``, so that a compressed index decides which passages are
    candidates, but never their order.
    """
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(queries, candidates, "euclidean"), dtype=np.float64)


def nearest_distinct(
    distances: npt.NDArray[np.float64], candidates: Vectors, keep: int, near_duplicate: float
) -> list[int]:
    """Positions of the nearest candidates, each farther than ``near_duplicate`` from all earlier ones.

    Parameters
    ----------
    distances : ``(m,)`` that order the candidates, smallest first.
    candidates : ``(m, d)`` their vectors.
    keep : at most this many.
    near_duplicate : L2 distance; 0 drops only equal vectors, a negative one nothing.
    """
    chosen: list[int] = []
    for position in np.argsort(distances, kind="stable"):
        if len(chosen) == keep:
            break
        if chosen:
            gaps = np.linalg.norm(candidates[chosen] - candidates[position], axis=1)
            if gaps.min() <= near_duplicate:
                continue
        chosen.append(int(position))
    return chosen
