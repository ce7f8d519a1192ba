"""Exact search over vectors that do not fit in memory: every query against every row, in blocks.

The winners of the Kaggle LLM Science Exam searched 30 to 60 million chunks this way: a block of rows, a
matrix product, a running top-k. It is also what the recall of a compressed index is measured against.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kaggle_rag.index.vectors import Rows, Vectors, VectorStore

Distances = npt.NDArray[np.float32]
# float32 candidates compared at once when a compressed index is refined.
_REFINE_BYTES = 32 << 20
# Bytes per second from a notebook's disk through two cores to the GPU, and seconds a pass may take.
_READ_RATE, _TIME = 500_000_000, 600


def is_affordable(stored_bytes: int, device: str) -> bool:
    """Whether a pass over all vectors is worth its time: on a GPU that receives them in ten minutes."""
    return device.startswith("cuda") and stored_bytes <= _READ_RATE * _TIME


def search_exact(
    queries: Vectors,
    store: VectorStore,
    k: int,
    *,
    device: str = "cpu",
    on_rows: Callable[[int], object] | None = None,
) -> tuple[Distances, Rows]:
    """Squared L2 distances and rows of the ``k`` nearest of all vectors, each ``(n, k)``.

    Parameters
    ----------
    queries : ``(n, d)`` float32; all are compared with a block while it is in the cache.
    device : ``"cpu"`` (BLAS blocks through FAISS) or a CUDA device (half-precision products, the
        next block copied while this one is multiplied).
    on_rows : receives the number of rows searched (a progress bar's ``update``).
    """
    k = min(k, len(store))
    if not len(queries):
        return np.empty((0, k), np.float32), np.empty((0, k), np.int64)
    queries, report = np.ascontiguousarray(queries), on_rows or (lambda rows: None)
    if device.startswith("cuda"):
        # torch is slow to import, and searching an index on a CPU does not need it.
        from kaggle_rag.index.gpu import nearest_by_products

        rows = nearest_by_products(queries, store, min(2 * k, len(store)), device, report)
        return refine(queries, rows, store, k)
    return _on_cpu(queries, store, k, report)


def _on_cpu(
    queries: Vectors, store: VectorStore, k: int, on_rows: Callable[[int], object]
) -> tuple[Distances, Rows]:
    import faiss

    heap = faiss.ResultHeap(len(queries), k)
    for start, block in store.blocks():
        distances, rows = faiss.knn(queries, block, min(k, len(block)))
        heap.add_result(distances, rows + start)
        store.forget()
        on_rows(len(block))
    heap.finalize()
    return heap.D, heap.I


def refine(queries: Vectors, candidates: Rows, store: VectorStore, k: int) -> tuple[Distances, Rows]:
    """The ``k`` nearest of each query's candidates by their stored vectors.

    Parameters
    ----------
    queries : ``(n, d)`` float32.
    candidates : ``(n, m)`` rows, ``m >= k``; -1 where missing.

    Returns
    -------
    Squared L2 distances and rows, each ``(n, k)``, nearest first; ``inf`` and -1 where missing.
    """
    queries_at_once = max(1, _REFINE_BYTES // (4 * max(1, candidates.shape[1]) * queries.shape[1]))
    distances = np.empty((len(queries), min(k, candidates.shape[1])), dtype=np.float32)
    rows = np.empty(distances.shape, dtype=np.int64)
    for start in range(0, len(queries), queries_at_once):
        part = slice(start, start + queries_at_once)
        distances[part], rows[part] = _nearest(queries[part], candidates[part], store, k)
    return distances, rows


def _nearest(queries: Vectors, candidates: Rows, store: VectorStore, k: int) -> tuple[Distances, Rows]:
    valid = candidates >= 0
    vectors = store.take(np.where(valid, candidates, 0).ravel()).reshape(*candidates.shape, -1)
    vectors -= queries[:, None, :]
    distances = np.einsum("nkd,nkd->nk", vectors, vectors)
    distances[~valid] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(candidates, order, axis=1)
