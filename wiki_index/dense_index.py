"""Step 3: vectors to a FAISS index: learn lists and codes, add in parts, merge, all within the budget.

A part is a FAISS file of a million rows, so a killed build adds at most one part again; merging moves
codes and learns nothing, so the result does not depend on where the build was killed.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from tqdm import tqdm

from kaggle_rag.artifacts import whole_file
from kaggle_rag.retrieval.dense import FAISS_FILE
from kaggle_rag.retrieval.kinds import KINDS, VECTORS_A_LIST, factory_of, lists_for, make
from kaggle_rag.retrieval.vectors import Vectors, VectorStore

LEARNED, PARTS = "learned.faiss", "parts"
PART_ROWS = 1 << 20
# 8-bit ranges are learned from so many vectors where there are no lists.
_RANGES_FROM = 1 << 16


@dataclasses.dataclass(frozen=True)
class Made:
    """What was made: FAISS's description, and how many vectors it learned from."""

    factory: str
    trained_on: int


def make_index(folder: Path, kind: str, store: VectorStore, part_rows: int = PART_ROWS) -> Made:
    """Write ``index.faiss`` over all vectors of ``store`` into ``folder``, or go on with it."""
    made = Made(factory_of(kind, len(store), store.layout.dim), _sample_size(kind, len(store)))
    if not (folder / FAISS_FILE).exists():
        if KINDS[kind].lists:
            _by_lists(folder, made, store, part_rows)
        else:
            _scanned(folder, made, store)
    return made


def _sample_size(kind: str, rows: int) -> int:
    if KINDS[kind].lists:
        return min(rows, VECTORS_A_LIST * lists_for(rows))
    return min(rows, _RANGES_FROM) if kind == "sq8" else 0


def _sample(store: VectorStore, size: int) -> Vectors:
    """Vectors from all over the corpus, evenly spaced: no seed, and no article left out."""
    return store.take(np.linspace(0, len(store) - 1, size).astype(np.int64))


def _scanned(folder: Path, made: Made, store: VectorStore) -> None:
    """An index without lists: its codes stand in the order of the rows."""
    index: Any = make(made.factory, store.layout.dim)
    if made.trained_on:
        index.train(_sample(store, made.trained_on))
    size = index.sa_code_size()
    # Grown by `add`, the codes would be copied each time they outgrow their room: twice the memory.
    index.codes.resize(len(store) * size)
    codes = faiss.rev_swig_ptr(index.codes.data(), len(store) * size).reshape(-1, size)
    with tqdm(total=len(store), desc="index", unit="passage") as bar:
        for start, block in store.blocks():
            codes[start : start + len(block)] = index.sa_encode(block)
            store.forget()
            bar.update(len(block))
    index.ntotal = len(store)
    _write(index, folder / FAISS_FILE)


def _by_lists(folder: Path, made: Made, store: VectorStore, part_rows: int) -> None:
    _learn(folder / LEARNED, made, store)
    starts = range(0, len(store), part_rows)
    parts = [folder / PARTS / f"{number:04d}.faiss" for number in range(len(starts))]
    done = sum(min(part_rows, len(store) - s) for s, path in zip(starts, parts) if path.exists())
    with tqdm(total=len(store), initial=done, desc="index", unit="passage") as bar:
        for start, path in zip(starts, parts):
            if not path.exists():
                _write(_part(folder / LEARNED, store, start, min(start + part_rows, len(store)), bar), path)
    merged = faiss.read_index(str(folder / LEARNED))
    for start, path in zip(starts, parts):
        merged.merge_from(faiss.read_index(str(path)), start)
    _write(merged, folder / FAISS_FILE)


def _learn(path: Path, made: Made, store: VectorStore) -> None:
    """k-means for the lists and codes; the same vectors and FAISS's own seed give the same index."""
    if path.exists():
        return
    index = make(made.factory, store.layout.dim)
    with tqdm(total=made.trained_on, desc="learn lists and codes", unit="vector") as bar:
        index.train(_sample(store, made.trained_on))
        bar.update(made.trained_on)
    _write(index, path)


def _part(learned: Path, store: VectorStore, start: int, stop: int, bar: tqdm) -> faiss.Index:
    index = faiss.read_index(str(learned))
    step = max(1, (64 << 20) // (4 * store.layout.dim))
    for first in range(start, stop, step):
        block = store.slice(first, min(first + step, stop))
        index.add(block)
        store.forget()
        bar.update(len(block))
    return index


def _write(index: faiss.Index, path: Path) -> None:
    with whole_file(path) as aside, aside.open("wb") as file:
        # Through Python's file, so that a full disk is an OSError and not a C++ exception.
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
