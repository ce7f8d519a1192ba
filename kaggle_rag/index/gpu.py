"""Exact search on a GPU: half-precision products, the next block copied while one is multiplied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch

from kaggle_rag.index.vectors import Rows, Vectors, VectorStore

# Rows of one block: 200 MB at 384 dimensions in half precision, two of them in flight.
_ROWS = 1 << 18
# Queries compared with a block at once: their products take 1.6 GB in both precisions.
_QUERIES = 1024


def nearest_by_products(
    queries: Vectors, store: VectorStore, k: int, device: str, on_rows: Callable[[int], object]
) -> Rows:
    """Rows ``(n, k)`` of the nearest vectors in half precision, nearest first.

    The caller computes their distances: half precision may swap near ties.
    """
    on_device = torch.from_numpy(queries).to(device).half()
    return running_top(on_device, _copied_ahead(store, device), k, on_rows)


def running_top(
    queries: torch.Tensor,
    blocks: Iterable[tuple[int, torch.Tensor]],
    k: int,
    on_rows: Callable[[int], object],
) -> Rows:
    """The ``k`` nearest rows of all blocks, each compared once with all queries.

    Parameters
    ----------
    queries : ``(n, d)`` float16.
    blocks : first row, and ``(b, d)`` float16 vectors on the same device as the queries.
    """
    best = torch.full((len(queries), k), -torch.inf, device=queries.device)
    rows = torch.zeros((len(queries), k), dtype=torch.int64, device=queries.device)
    for start, block in blocks:
        # |x|^2 / 2 - q.x sorts as the L2 distance does; with unit vectors the first term is constant.
        half_length = block.float().square().sum(dim=1) / 2
        for begin in range(0, len(queries), _QUERIES):
            part = slice(begin, begin + _QUERIES)
            scores = (queries[part] @ block.T).float() - half_length
            top, positions = scores.topk(min(k, len(block)), dim=1)
            best[part], chosen = torch.cat([best[part], top], dim=1).topk(k, dim=1)
            rows[part] = torch.cat([rows[part], positions + start], dim=1).gather(1, chosen)
        on_rows(len(block))
    return np.asarray(rows.cpu().numpy(), dtype=np.int64)


def _copied_ahead(store: VectorStore, device: str) -> Iterator[tuple[int, torch.Tensor]]:
    """Blocks in half precision on the GPU, the next one on its way while one is in use."""
    stream = torch.cuda.Stream(device)

    def send(block: Vectors) -> torch.Tensor:
        with torch.cuda.stream(stream):
            return torch.from_numpy(block).half().pin_memory().to(device, non_blocking=True)

    waiting: tuple[int, torch.Tensor] | None = None
    for start, block in store.blocks(_ROWS):
        sent = (start, send(block))
        if waiting is not None:
            yield waiting
        torch.cuda.current_stream(device).wait_stream(stream)
        sent[1].record_stream(torch.cuda.current_stream(device))
        waiting = sent
    if waiting is not None:
        yield waiting
