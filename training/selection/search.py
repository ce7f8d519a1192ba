"""Questions ranked for each specification: by the vectors of an encoder, or by their words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.exact import search_exact
from kaggle_rag.index.lexical import PART_ROWS, Lexical, part_name, write_part
from kaggle_rag.index.vectors import VectorLayout, VectorStore, VectorWriter
from kaggle_rag.runtime.console import bar
from kaggle_rag.runtime.files import require_space

Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
# Questions encoded, and specifications whose scores of all questions are held, at once.
_BATCH, _QUERIES = 4_096, 64


class Hits(NamedTuple):
    """The best questions of each of ``s`` specifications, best first; equal ones in the pool's order.

    Attributes
    ----------
    scores : ``(s, k)``.
    rows : ``(s, k)``, -1 where a specification has no more.
    """

    scores: Scores
    rows: Rows


class Search(Protocol):
    """``n`` questions, and ``s`` specifications that look for them."""

    def nearest(self, k: int) -> Hits:
        """The ``k`` best questions of each specification."""

    def means(self) -> Scores:
        """The mean score of each question over all specifications, ``(n,)``."""

    def scores(self, rows: Rows) -> Scores:
        """Each specification's scores of these questions, ``(s, len(rows))``."""


class DenseSearch:
    """Cosines of an encoder's vectors, which lie in a file: batches of them are in memory.

    Parameters
    ----------
    folder : for that file.
    """

    def __init__(
        self, specifications: Sequence[str], pool: Sequence[str], encoder: Encoder, folder: Path
    ) -> None:
        self._queries, self._device = encoder.encode_queries(specifications), encoder.device
        layout = VectorLayout(len(pool), encoder.card.dim)
        require_space(folder, layout.rows * layout.row_bytes)
        path = folder / "vectors.npy"
        writer = VectorWriter(path, layout)
        with bar("encode", len(pool)) as shown:
            for start in range(0, len(pool), _BATCH):
                texts = pool[start : start + _BATCH]
                writer.write(start, encoder.encode_passages(texts, on_rows=shown.update))
        writer.close()
        self._store = VectorStore(path, layout)

    def nearest(self, k: int) -> Hits:
        # Of unit vectors: |a - b|^2 = 2 - 2 cos.
        distances, rows = search_exact(self._queries, self._store, k, device=self._device)
        return _in_order(1 - distances.astype(np.float64) / 2, rows)

    def means(self) -> Scores:
        # The mean of products is the product with the mean.
        mean = self._queries.mean(axis=0, dtype=np.float64)
        return np.concatenate([block @ mean for _, block in self._store.blocks()])

    def scores(self, rows: Rows) -> Scores:
        return np.asarray(self._queries @ self._store.take(rows).T, dtype=np.float64)


class LexicalSearch:
    """BM25; a specification that shares no word with a question has no hit there, and a score of 0."""

    def __init__(self, specifications: Sequence[str], pool: Sequence[str], folder: Path) -> None:
        self._queries, sizes = specifications, []
        with bar("index", len(pool)) as shown:
            for number, start in enumerate(range(0, len(pool), PART_ROWS)):
                texts = pool[start : start + PART_ROWS]
                write_part(folder / part_name(number), iter(texts), on_rows=shown.update)
                sizes.append(len(texts))
        self._index = Lexical(folder, sizes)

    def nearest(self, k: int) -> Hits:
        scores, rows = self._index.search(self._queries, k)
        return _in_order(scores.astype(np.float64), rows)

    def means(self) -> Scores:
        total = np.zeros(len(self._index))
        for start in range(0, len(self._queries), _QUERIES):
            scores, rows = self._index.search(self._queries[start : start + _QUERIES], len(self._index))
            np.add.at(total, rows[rows >= 0], scores[rows >= 0])
        return total / len(self._queries)

    def scores(self, rows: Rows) -> Scores:
        return np.stack([self._index.scores(query, rows) for query in self._queries]).astype(np.float64)


def _in_order(scores: Scores, rows: Rows) -> Hits:
    """Best first, equal ones in the pool's order, whatever order the search left them in; none last."""
    scores = np.where(rows >= 0, scores, -np.inf)
    order = np.lexsort((rows, -scores), axis=1)
    return Hits(np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1))


def _dense(
    specifications: Sequence[str], pool: Sequence[str], encoder: Callable[[], Encoder], folder: Path
) -> Search:
    return DenseSearch(specifications, pool, encoder(), folder)


def _lexical(
    specifications: Sequence[str], pool: Sequence[str], encoder: Callable[[], Encoder], folder: Path
) -> Search:
    return LexicalSearch(specifications, pool, folder)


# By what questions are ranked; each is handed a function that loads the encoder.
SEARCHES: dict[str, Callable[[Sequence[str], Sequence[str], Callable[[], Encoder], Path], Search]] = {
    "vectors": _dense,
    "words": _lexical,
}
