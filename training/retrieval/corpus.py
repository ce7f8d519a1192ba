"""Passages that training searches: from a file, held in memory, or from an index."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.cells import text_of
from kaggle_rag.data.columns import require_columns
from kaggle_rag.data.compressed import inner_name
from kaggle_rag.data.tables import read_rows
from kaggle_rag.data.texts import text_lines
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.index.vectors import Rows, Vectors
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.runtime.console import bar
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.text.normalise import same
from training.retrieval.settings import RerankerSettings, RetrieverSettings

Cosines = npt.NDArray[np.float32]
# Rows of the cosine table in memory at once.
_QUERIES = 256


class PassagePool(Protocol):
    """Passages by row number, searched by an encoder."""

    @property
    def encoder(self) -> Encoder: ...

    def __len__(self) -> int: ...

    def text(self, row: int) -> str: ...

    def search(self, queries: Vectors, k: int) -> tuple[Cosines, Rows]:
        """Cosines and rows of the ``k`` nearest passages of each query, nearest first, ``(n, k)``."""
        ...


class ListedPassages:
    """Passages of a file, each text once."""

    def __init__(self, texts: Iterable[str], encoder: Encoder) -> None:
        self.texts = list({same(text): text for text in texts}.values())
        self.encoder = encoder

    def __len__(self) -> int:
        return len(self.texts)

    def text(self, row: int) -> str:
        return self.texts[row]

    def search(self, queries: Vectors, k: int) -> tuple[Cosines, Rows]:
        return nearest(queries, self._vectors, k)

    @functools.cached_property
    def _vectors(self) -> Vectors:
        return encode_passages(self.encoder, self.texts)


class IndexedPassages:
    """Passages of an index, searched with the encoder it was built with."""

    def __init__(self, index: Index, encoder: Encoder) -> None:
        self.index, self.encoder = index, encoder

    def __len__(self) -> int:
        return len(self.index)

    def text(self, row: int) -> str:
        return self.index.passages[row].text

    def search(self, queries: Vectors, k: int) -> tuple[Cosines, Rows]:
        distances, rows = self.index.search(queries, k)
        # On unit vectors the squared L2 distance is 2 - 2 cos.
        cosines = np.asarray(1 - distances / 2, dtype=np.float32)
        # Where a compressed index found too few, repeat the nearest.
        nearest_again = np.maximum(rows[:, :1], 0)
        return np.where(rows < 0, cosines[:, :1], cosines), np.where(rows < 0, nearest_again, rows)


def open_corpus(
    settings: RetrieverSettings | RerankerSettings, golds: Sequence[str], encoder: Encoder | None
) -> PassagePool:
    """The passages that the settings name, or only the gold ones.

    Parameters
    ----------
    golds : passages of the column ``positive``; those that a file lacks are added.
    encoder : the model to train, if it is an encoder; it searches anything but an index, unless the
        settings name another.

    Raises
    ------
    ArtifactError : the index was built with a different encoder.
    InputError : a file without passages.
    """
    if settings.index:
        index = Index(settings.index)
        return IndexedPassages(index, index.encoder(location=settings.encoder, device=settings.device))
    if encoder is None or settings.encoder:
        encoder = Encoder(settings.encoder or DEFAULT_ENCODER, device=settings.device)
    texts = read_passages(settings.passages) if settings.passages else []
    return ListedPassages([*texts, *golds], encoder)


def read_passages(path: Path) -> list[str]:
    """Passages of a ``.txt`` file, one per line, or of the column ``text`` of a table."""
    lines: list[str] = []
    if inner_name(path).endswith(".txt"):
        lines += text_lines(path)
    else:
        for number, row in enumerate(read_rows(path, ["text"]), 1):
            require_columns(row, ["text"], f"{path}, row {number}", "a column text with the passages")
            lines.append(text_of(row["text"], f"{path}, row {number}, column text") or "")
    texts = [text.strip() for text in lines if text.strip()]
    if not texts:
        raise InputError("the file contains no passages", where=path, expected="one passage per line or row")
    return texts


def nearest(queries: Vectors, passages: Vectors, k: int) -> tuple[Cosines, Rows]:
    """Cosines and rows of the ``k`` passages nearest to each query, by exhaustive search; ties by row."""
    k = min(k, len(passages))
    cosines = np.empty((len(queries), k), dtype=np.float32)
    rows = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), _QUERIES):
        table = queries[start : start + _QUERIES] @ passages.T
        order = np.argsort(-table, axis=1, kind="stable")[:, :k]
        rows[start : start + _QUERIES] = order
        cosines[start : start + _QUERIES] = np.take_along_axis(table, order, axis=1)
    return cosines, rows


def encode_queries(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    with bar("queries", len(texts)) as shown:
        return encoder.encode_queries(texts, on_rows=shown.update)


def encode_passages(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    with bar("passages", len(texts)) as shown:
        return encoder.encode_passages(texts, on_rows=shown.update)


