"""Step 3: vectors to a FAISS index: learn lists and codes, add block by block, within the budget.

The growing index is saved every few million rows, and a killed build resumes from there. Blocks start
at the same rows whatever happened before, so the bytes do not depend on where a build was killed.
(Merging parts would avoid the repeated saving, but `merge_from` of FAISS 1.15 corrupts the heap when
lists are packed for registers.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from kaggle_rag.index.dense import FAISS_FILE
from kaggle_rag.index.kinds import VECTORS_A_LIST, factory_of, kind_of, lists_of
from kaggle_rag.index.vectors import Vectors, VectorStore
from kaggle_rag.runtime.console import progress
from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.files import whole_file

GROWING = "growing.faiss"
# Rows between two saves of the growing index, and float32 bytes added at once.
KEPT_EVERY = 1 << 22
_BLOCK_BYTES = 64 << 20
# Number of vectors that 8-bit ranges are learned from in an index without lists.
_RANGES_FROM = 1 << 16


@dataclasses.dataclass(frozen=True)
class IndexSpec:
    """An index as FAISS describes it, and how many vectors it is trained on."""

    factory: str
    trained_on: int


def make_index(folder: Path, kind: str, store: VectorStore, kept_every: int = KEPT_EVERY) -> IndexSpec:
    """Write ``index.faiss`` over all vectors of ``store`` into ``folder``, or resume writing it."""
    spec = IndexSpec(factory_of(kind, len(store), store.layout.dim), _sample_size(kind, len(store)))
    if not (folder / FAISS_FILE).exists():
        if kind_of(kind).grown:
            with _told(kind):
                _in_blocks(folder, spec, store, kept_every)
        else:
            _scanned(folder, spec, store)
    return spec


@contextmanager
def _told(kind: str) -> Iterator[None]:
    """What FAISS cannot make of a description is a fault of the description."""
    try:
        yield
    except RuntimeError as error:
        if not kind_of(kind).described:
            raise
        raise ConfigError(
            f"FAISS makes no index of {kind!r} from these vectors: {error}", where="--index",
            cure="choose another description, or one of the kinds of --help",
        ) from error  # fmt: skip


def _sample_size(kind: str, rows: int) -> int:
    if kind_of(kind).described:
        return min(rows, max(_RANGES_FROM, VECTORS_A_LIST * lists_of(kind, rows)))
    if kind_of(kind).lists:
        return min(rows, VECTORS_A_LIST * lists_of(kind, rows))
    return min(rows, _RANGES_FROM) if kind == "sq8" else 0


def _sample(store: VectorStore, size: int) -> Vectors:
    """Vectors from all over the corpus, evenly spaced: no seed, and no article left out."""
    return store.take(np.linspace(0, len(store) - 1, size).astype(np.int64))


def _scanned(folder: Path, spec: IndexSpec, store: VectorStore) -> None:
    """An index without lists: its codes are in the order of the rows."""
    index: Any = _empty(spec, store)
    if spec.trained_on:
        index.train(_sample(store, spec.trained_on))
    size = index.sa_code_size()
    # Grown by `add`, the codes would be copied each time they outgrow their buffer: twice the memory.
    index.codes.resize(len(store) * size)
    codes = faiss.rev_swig_ptr(index.codes.data(), len(store) * size).reshape(-1, size)
    with progress(len(store), "index", "passage") as bar:
        for start, block in store.blocks():
            codes[start : start + len(block)] = index.sa_encode(block)
            store.forget()
            bar.update(len(block))
    index.ntotal = len(store)
    _write(index, folder / FAISS_FILE)


def _in_blocks(folder: Path, spec: IndexSpec, store: VectorStore, kept_every: int) -> None:
    growing = folder / GROWING
    if not growing.exists():
        _write(_trained(spec, store), growing)
    index = faiss.read_index(str(growing))
    step = max(1, min(kept_every, _BLOCK_BYTES // (4 * store.layout.dim)))
    saved = index.ntotal
    with progress(len(store), "index", "passage", initial=saved) as bar:
        for start in range(saved, len(store), step):
            block = store.slice(start, min(start + step, len(store)))
            index.add(block)
            store.forget()
            bar.update(len(block))
            if index.ntotal - saved >= kept_every and index.ntotal < len(store):
                _write(index, growing)
                saved = index.ntotal
    _write(index, folder / FAISS_FILE)


def _trained(spec: IndexSpec, store: VectorStore) -> faiss.Index:
    """k-means for the lists and codes; the same vectors and FAISS's own seed give the same index."""
    index = _empty(spec, store)
    with progress(spec.trained_on, "learn lists and codes", "vector") as bar:
        index.train(_sample(store, spec.trained_on))
        bar.update(spec.trained_on)
    return index


def _empty(spec: IndexSpec, store: VectorStore) -> faiss.Index:
    return faiss.index_factory(store.layout.dim, spec.factory, faiss.METRIC_L2)


def _write(index: faiss.Index, path: Path) -> None:
    with whole_file(path) as aside, aside.open("wb") as file:
        # Through a Python file, so that a full disk is an OSError and not a C++ exception.
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
