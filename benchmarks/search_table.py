"""The search table of an older system, with ours added: random vectors, 1 and 10 queries.

That system had brute-force inner products, IVF with 100 lists, and IVF with √N lists for N vectors, all
with full float32 vectors in RAM and FAISS's default nprobe of 1; it was shut down at 5 million. Ours is
`ivf-pq`, which fits in 3 GB at every size, searched twice: for at least the recall of IVF √N, and for that
of the better IVF. Every build runs in its own process; the table says which do not fit in memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import psutil

from benchmarks.common import Watch, parser, report
from kaggle_rag.index.dense import VECTORS_FILE, Dense
from kaggle_rag.index.manifest import DenseCard, EncoderCard
from kaggle_rag.index.vectors import VectorLayout, Vectors, VectorStore, VectorWriter
from kaggle_rag.runtime.errors import run_program, show_size
from wiki_index.steps.dense_index import make_index

K, _DIM, _BLOCK, _REPEATS, _QUERIES = 10, 768, 50_000, 20, 200
KIND = "ivf-pq"
METHODS = ("brute force", "IVF 100", "IVF √N", "ours")
# Target recalls: that of one IVF, or of the better one.
OURS = ("ours, as IVF √N", "ours, as the better IVF")


def main() -> int:
    flags = parser(str(__doc__))
    flags.formatter_class = argparse.RawDescriptionHelpFormatter
    flags.add_argument("--millions", nargs="+", type=float, default=[1, 2, 3, 4, 5])
    flags.add_argument("--folder", type=Path, help="where to store the vectors (default: a temporary folder)")
    flags.add_argument("--cell", nargs=4, help=argparse.SUPPRESS)
    arguments = flags.parse_args()
    if arguments.cell:
        method, rows, dim, targets = arguments.cell
        print(json.dumps(cell(arguments.folder, method, int(rows), int(dim), json.loads(targets))))
        return 0
    millions, dim = ([0.05], 64) if arguments.quick else (arguments.millions, _DIM)
    rows: list[dict[str, Any]] = []
    for size in millions:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            rows += compare(Path(folder), round(size * 1e6), dim)
    note = (
        f"Random unit vectors of {dim} dimensions, {K} nearest, times are medians of {_REPEATS}. Recall@{K} "
        f"is of {_QUERIES} queries; random vectors have no structure that an index could use. Memory is "
        "anonymous memory at its peak, building and searching."
    )
    report("Searching random vectors", rows, arguments.json, note)
    return 0


def compare(folder: Path, rows: int, dim: int) -> list[dict[str, Any]]:
    draw(folder, rows, dim)
    table, recalls = [], {}
    for method in METHODS:
        targets = [recalls.get("IVF √N", 0.0), max(recalls.values(), default=0.0)]
        command = [
            sys.executable, "-m", "benchmarks.search_table", "--folder", str(folder),
            "--cell", method, str(rows), str(dim), json.dumps(targets),
        ]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        each = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else [{}]
        if method.startswith("IVF"):
            recalls[method] = each[0].get("recall", 0.0)
        names = OURS if method == "ours" else (method,)
        table += [row_of(name, rows, found) for name, found in zip(names, each)]
    return table


def row_of(method: str, rows: int, found: dict[str, Any]) -> dict[str, str]:
    return {
        "vectors": f"{rows / 1e6:g} M", "method": method,
        "1 query ms": f"{1e3 * found['one']:.2f}" if "one" in found else found.get("why", "died"),
        "10 queries ms": f"{1e3 * found['ten']:.2f}" if "ten" in found else "",
        f"recall@{K}": f"{found['recall']:.3f}" if "recall" in found else "",
        "build s": f"{found['build']:.0f}" if "build" in found else "",
        "memory": show_size(found["memory"]) if "memory" in found else "",
        "index": found.get("index", ""),
    }  # fmt: skip


def draw(folder: Path, rows: int, dim: int) -> None:
    """Write the vectors in half precision, the queries, and the exact answers."""
    rng = np.random.default_rng(0)
    writer = VectorWriter(folder / VECTORS_FILE, VectorLayout(rows, dim, "fp16"))
    for start in range(0, rows, _BLOCK):
        writer.write(start, _unit(rng.normal(size=(min(_BLOCK, rows - start), dim))))
    writer.close()
    np.save(folder / "queries.npy", _unit(rng.normal(size=(2 * _QUERIES, dim))))


def cell(folder: Path, method: str, rows: int, dim: int, targets: list[float]) -> list[dict[str, Any]]:
    """The results of one build: one, or for ours one per target recall."""
    store = VectorStore(folder / VECTORS_FILE, VectorLayout(rows, dim, "fp16"))
    queries = np.load(folder / "queries.npy")
    if method != "ours" and (needed := 4.6 * rows * dim) > (free := psutil.virtual_memory().available):
        return [{"why": f"needs {show_size(needed)}, {show_size(free)} are free"}]
    with Watch() as watch:
        start = time.perf_counter()
        made = (
            _ours(folder, store, queries[_QUERIES:], targets)
            if method == "ours"
            else [_theirs(method, store)]
        )
        build = time.perf_counter() - start
        times = [[_median(search, queries, count) for count in (1, 10)] for search, _ in made]
    truth = _truth(folder, store, queries[:_QUERIES])
    shared = {"build": build, "memory": watch.peak}
    return [
        {
            "one": one,
            "ten": ten,
            "recall": _recall(search(queries[:_QUERIES]), truth),
            "index": name,
            **shared,
        }
        for (search, name), (one, ten) in zip(made, times)
    ]


def _recall(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found[:, :, None] == truth[:, None, :]).any(axis=2).mean())


def _theirs(method: str, store: VectorStore) -> tuple[Any, str]:
    lists = {"IVF 100": 100, "IVF √N": round(len(store) ** 0.5)}.get(method)
    name = f"IVF{lists},Flat" if lists else "Flat"
    index: Any = faiss.index_factory(store.layout.dim, name, faiss.METRIC_INNER_PRODUCT)
    if lists:
        index.train(store.take(np.linspace(0, len(store) - 1, 64 * lists).astype(np.int64)))
    for _, block in store.blocks():
        index.add(block)
    return (lambda queries: index.search(queries, K)[1]), name


def _ours(folder: Path, store: VectorStore, queries: Vectors, targets: list[float]) -> list[tuple[Any, str]]:
    from wiki_index.steps.tune import tune

    dim = store.layout.dim
    made = make_index(folder, KIND, store)
    card = DenseCard(EncoderCard("drawn", "", dim, 0, "", ""), KIND, made.factory, "fp16")
    tuned = [tune(Dense(folder, card, len(store)), queries, target) for target in targets]
    return [
        (partial(_search, Dense(folder, each, len(store))), f"{made.factory}, nprobe {each.nprobe}")
        for each in tuned
    ]


def _search(dense: Dense, asked: Vectors) -> Any:
    return dense.search(asked, K)[1]


def _median(search: Any, queries: Vectors, count: int) -> float:
    seconds = []
    for repeat in range(_REPEATS):
        asked = queries[repeat * count % _QUERIES :][:count]
        start = time.perf_counter()
        search(asked)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _truth(folder: Path, store: VectorStore, queries: Vectors) -> np.ndarray:
    from kaggle_rag.index.exact import search_exact

    path = folder / "truth.npy"
    if not path.exists():
        np.save(path, search_exact(queries, store, K)[1])
    return np.asarray(np.load(path))


def _unit(vectors: Any) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


if __name__ == "__main__":
    sys.exit(run_program(main))
