"""Candidates measured exactly, and near-duplicates among them dropped."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kaggle_rag.index.vectors import Vectors

Distances = npt.NDArray[np.float64]


def exact_distances(queries: Vectors, candidates: Vectors) -> Distances:
    """L2 distances ``(q, m)`` float64 between queries ``(q, d)`` and candidates ``(m, d)``.

    In double precision by scipy's ``cdist``, so that a compressed index decides who is a candidate
    and never who is first.
    """
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(queries, candidates, "euclidean"), dtype=np.float64)


def nearest_distinct(
    distances: npt.NDArray[np.float64], candidates: Vectors, keep: int, near_duplicate: float
) -> list[int]:
    """Positions of the nearest candidates, each farther than ``near_duplicate`` from all before it.

    Parameters
    ----------
    distances : ``(m,)`` what the candidates are ordered by, the smallest first.
    candidates : ``(m, d)`` their vectors.
    keep : how many at most.
    near_duplicate : L2 distance; 0 drops equal vectors only, and nothing when it is negative.
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
