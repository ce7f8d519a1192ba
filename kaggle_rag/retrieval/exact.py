"""Exact search over vectors that do not fit in memory: every query against every row, in blocks.

The winning team of the Kaggle LLM Science Exam searched 30 to 60 million chunks this way
(https://www.kaggle.com/competitions/kaggle-llm-science-exam/discussion/446422): a block of rows, a
matrix product, a running top-k. It is also what the recall of a compressed index is measured against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import faiss
import numpy as np
import numpy.typing as npt
import torch

from kaggle_rag.retrieval.vectors import Rows, Vectors, VectorStore

Distances = npt.NDArray[np.float32]
# Rows of one block on a GPU: 200 MB at 384 dimensions in half precision, two of them in flight.
_GPU_ROWS = 1 << 18
# float32 candidates compared at once when a compressed index is refined.
_REFINE_BYTES = 32 << 20


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
    queries : ``(n, d)`` float32; all of them meet a block while it is in the cache.
    device : ``"cpu"`` (BLAS blocks through FAISS) or a CUDA device (half-precision products, the
        next block copied while this one is multiplied).
    on_rows : hears how many rows were searched (a progress bar's ``update``).
    """
    k = min(k, len(store))
    if not len(queries):
        return np.empty((0, k), np.float32), np.empty((0, k), np.int64)
    search = _on_gpu if device.startswith("cuda") else _on_cpu
    return search(np.ascontiguousarray(queries), store, k, device, on_rows or (lambda rows: None))


def _on_cpu(
    queries: Vectors, store: VectorStore, k: int, device: str, on_rows: Callable[[int], object]
) -> tuple[Distances, Rows]:
    heap = faiss.ResultHeap(len(queries), k)
    for start, block in store.blocks():
        distances, rows = faiss.knn(queries, block, min(k, len(block)))
        heap.add_result(distances, rows + start)
        store.forget()
        on_rows(len(block))
    heap.finalize()
    return heap.D, heap.I


def _on_gpu(
    queries: Vectors, store: VectorStore, k: int, device: str, on_rows: Callable[[int], object]
) -> tuple[Distances, Rows]:
    """Half-precision products pick ``2 k`` rows; their distances are then computed in float32."""
    asked = torch.from_numpy(queries).to(device).half()
    wanted = min(2 * k, len(store))
    best = torch.full((len(queries), wanted), -torch.inf, device=device)
    rows = torch.zeros((len(queries), wanted), dtype=torch.int64, device=device)
    for start, block in _copied_ahead(store, device):
        # |x|^2 / 2 - q.x orders as the L2 distance does; with unit vectors the first term is constant.
        scores = (asked @ block.T).float() - block.float().square().sum(dim=1) / 2
        top, positions = scores.topk(min(wanted, len(block)), dim=1)
        both = torch.cat([best, top], dim=1)
        best, chosen = both.topk(wanted, dim=1)
        rows = torch.cat([rows, positions + start], dim=1).gather(1, chosen)
        on_rows(len(block))
    return refine(queries, rows.cpu().numpy(), store, k)


def _copied_ahead(store: VectorStore, device: str) -> Iterator[tuple[int, torch.Tensor]]:
    """Blocks in half precision on the GPU, the next one on its way while one is in use."""
    stream = torch.cuda.Stream(device)

    def send(block: Vectors) -> torch.Tensor:
        with torch.cuda.stream(stream):
            return torch.from_numpy(block).half().pin_memory().to(device, non_blocking=True)

    waiting: tuple[int, torch.Tensor] | None = None
    for start, block in store.blocks(_GPU_ROWS):
        sent = (start, send(block))
        if waiting is not None:
            yield waiting
        torch.cuda.current_stream(device).wait_stream(stream)
        sent[1].record_stream(torch.cuda.current_stream(device))
        waiting = sent
    if waiting is not None:
        yield waiting


def refine(queries: Vectors, candidates: Rows, store: VectorStore, k: int) -> tuple[Distances, Rows]:
    """The ``k`` nearest of each query's candidates by their stored vectors.

    Parameters
    ----------
    queries : ``(n, d)`` float32.
    candidates : ``(n, m)`` rows, ``m >= k``; -1 where there is none.

    Returns
    -------
    Squared L2 distances and rows, each ``(n, k)``, nearest first; ``inf`` and -1 where there is none.
    """
    queries_at_once = max(1, _REFINE_BYTES // (4 * max(1, candidates.shape[1]) * queries.shape[1]))
    distances = np.empty((len(queries), min(k, candidates.shape[1])), dtype=np.float32)
    rows = np.empty(distances.shape, dtype=np.int64)
    for start in range(0, len(queries), queries_at_once):
        part = slice(start, start + queries_at_once)
        distances[part], rows[part] = _nearest(queries[part], candidates[part], store, k)
    return distances, rows


def _nearest(queries: Vectors, candidates: Rows, store: VectorStore, k: int) -> tuple[Distances, Rows]:
    there = candidates >= 0
    vectors = store.take(np.where(there, candidates, 0).ravel()).reshape(*candidates.shape, -1)
    vectors -= queries[:, None, :]
    distances = np.einsum("nkd,nkd->nk", vectors, vectors)
    distances[~there] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(candidates, order, axis=1)
