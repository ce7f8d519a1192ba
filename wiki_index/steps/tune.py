"""Step 4: how many lists to visit and how many candidates to rescore, for a target recall.

Measured on queries that are not in the index, against exact search. The cheapest setting is chosen by
the bytes it reads, not by the clock, so that every machine chooses the same.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from kaggle_rag.data.questions import Questions
from kaggle_rag.index.dense import Dense
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.kinds import kind_of, lists_of
from kaggle_rag.index.manifest import DenseCard
from kaggle_rag.index.passages import Passages
from kaggle_rag.index.vectors import Rows, Vectors
from kaggle_rag.retrieval.queries import queries_of
from kaggle_rag.runtime.console import progress

K = 10
_QUERIES = 512
_DEPTHS = (20, 50, 100, 200, 400, 800)
# Stored vectors are read from all over the disk, a list from one place: this many times the cost.
_SCATTERED = 8


def tune(dense: Dense, queries: Vectors, target: float) -> DenseCard:
    """The card, of a refined kind, with the cheapest setting whose recall@10 reaches the target.

    Parameters
    ----------
    queries : ``(n, d)`` float32, none of them a vector of the index.
    target : recall@10 to reach; if no setting does, the best one is used.
    """
    with progress(len(dense.store), "exact answers", "passage", leave=False) as bar:
        _, truth = dense.search_exact(queries, K, on_rows=bar.update)
    tried = [
        (recall, dataclasses.replace(dense.card, nprobe=nprobe, depth=depth))
        for nprobe in _nprobes(dense)
        for depth, recall in _recalls(dense, queries, truth, nprobe)
    ]
    if enough := [each for each in tried if each[0] >= target]:
        recall, card = min(enough, key=lambda each: _cost(dense, each[1]))
    else:
        recall, card = max(tried, key=lambda each: each[0])
    return dataclasses.replace(card, recall=round(recall, 4), queries=len(queries))


def _nprobes(dense: Dense) -> list[int]:
    """Doubling from 1 to half of the lists; 0 for a kind without lists."""
    if not kind_of(dense.card.kind).lists:
        return [0]
    lists = lists_of(dense.card.kind, len(dense.store))
    return [2**power for power in range(max(1, int(np.log2(lists))))]


def _recalls(dense: Dense, queries: Vectors, truth: Rows, nprobe: int) -> list[tuple[int, float]]:
    """Recall after exact refinement of each depth: every hit among the candidates counts."""
    depths = [depth for depth in _DEPTHS if depth <= len(dense.store)] or [len(dense.store)]
    candidates = dense.candidates(queries, depths[-1], nprobe)
    hits = (candidates[:, :, None] == truth[:, None, :]).any(axis=2)
    return [(depth, float(hits[:, :depth].sum() / truth.size)) for depth in depths]


def _cost(dense: Dense, card: DenseCard) -> float:
    """Bytes read for one query."""
    rows, dim = len(dense.store), dense.card.encoder.dim
    share = card.nprobe / lists_of(card.kind, rows) if card.nprobe else 1.0
    scanned = share * rows * kind_of(card.kind).bytes(dim)
    return scanned + card.depth * dense.store.layout.row_bytes * _SCATTERED


def halves(passages: Passages, encoder: Encoder, offset: int = 0) -> Vectors:
    """Queries from the corpus itself: the second half of the words of passages spread over it.

    ``offset`` shifts to the passages after them, and takes the first half, for queries that nothing was
    tuned on.

    A whole passage would find itself at distance 0, nearer than any question ever is.
    """
    rows = np.linspace(0, len(passages) - 1, min(_QUERIES, len(passages))).astype(np.int64)
    chosen = passages.take((rows + offset) % len(passages))
    return encoder.encode_queries([_half(passage.text, first=offset > 0) for passage in chosen])


def _half(text: str, *, first: bool) -> str:
    """Half of the words, or of the characters of a text without spaces."""
    pieces, between = (text.split(), " ") if " " in text else (list(text), "")
    middle = len(pieces) // 2
    return between.join(pieces[:middle] if first else pieces[middle:]) or text


def question_queries(questions: Questions, encoder: Encoder) -> Vectors:
    """Queries from real questions, each with all its options, as in the contexts stage."""
    sample = questions.take(range(0, len(questions), max(1, len(questions) // _QUERIES)))
    queries = queries_of(sample, ("all",), ("all",))
    return encoder.encode_queries([query.text for (query,) in queries])
