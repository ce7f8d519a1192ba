"""Kinds of index at the size of Wikipedia: memory to build and search, recall, and queries per second.

Every kind is built and searched in its own processes, whose anonymous memory (not backed by a file, so
the system cannot drop it) is measured. Real sentence vectors come from --index if it is given; the rest
are drawn around them, as normalised sums of a sentence, 0.7 of another one near it in the corpus, and
noise of length 0.2. Queries are drawn in the same way with another seed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Watch, parser, report
from kaggle_rag.index.dense import VECTORS_FILE, Dense
from kaggle_rag.index.exact import search_exact
from kaggle_rag.index.index import Index
from kaggle_rag.index.kinds import KINDS, kind_of
from kaggle_rag.index.manifest import DenseCard, EncoderCard
from kaggle_rag.index.vectors import VectorLayout, Vectors, VectorStore, VectorWriter
from kaggle_rag.runtime.errors import run_program, show_size
from kaggle_rag.runtime.files import write_json
from wiki_index.steps.dense_index import make_index

K, _BLOCK, _QUERIES = 10, 65_536, 1_000
DRAWN = "drawn.json"


def main() -> int:
    flags = parser(str(__doc__))
    flags.formatter_class = argparse.RawDescriptionHelpFormatter
    flags.add_argument("--rows", type=int, default=6_500_000)
    flags.add_argument("--dim", type=int, default=384)
    flags.add_argument("--index", help="take real vectors from this index (default: drawn clusters)")
    flags.add_argument("--kinds", default="ivf-sq8,ivf-rabitq,ivf-pq", help=", ".join(KINDS))
    flags.add_argument("--recall", type=float, default=0.985, help="target recall of nprobe and depth")
    flags.add_argument("--folder", type=Path, help="where to build; existing results are reused")
    flags.add_argument("--step", nargs=2, metavar=("NAME", "KIND"), help=argparse.SUPPRESS)
    arguments = flags.parse_args()
    if arguments.step:
        print(json.dumps(_STEPS[arguments.step[0]](arguments.folder, arguments.step[1], arguments)))
        return 0
    if arguments.quick:
        arguments.rows, arguments.dim = 60_000, 64
    with tempfile.TemporaryDirectory() as folder:
        name = f"index_scale_{arguments.rows}x{arguments.dim}"
        rows = compare((arguments.folder or Path(folder)) / name, arguments)
    source = f"real vectors of {arguments.index} and others drawn around them" if arguments.index else "drawn"
    note = (
        f"{arguments.rows:,} vectors of {arguments.dim} dimensions ({source}), {_QUERIES:,} queries, "
        f"{os.cpu_count()} cores. Memory is anonymous memory at its peak, the interpreter's included; the "
        "vectors for refinement are mapped files in half precision. p50 is of single queries."
    )
    report("Kinds of index", rows, arguments.json, note)
    return 0


def compare(folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    wanted = {"rows": arguments.rows, "dim": arguments.dim, "index": arguments.index}
    if _read(folder / DRAWN) != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        draw(folder, arguments)
        write_json(folder / DRAWN, wanted)
    exact = child("truth", "exact", folder, arguments)
    rows = [
        {
            "kind": "exact, streamed", "bytes": 2 * arguments.dim, "recall@10": "1",
            "queries/s": f"{exact['rate']:.0f}", "p50 ms": "", "build s": "",
            "memory building": "", "memory searching": show_size(exact["memory"]), "nprobe": "", "depth": "",
        }
    ]  # fmt: skip
    for kind in arguments.kinds.split(","):
        built = child("build", kind, folder, arguments)
        found = child("search", kind, folder, arguments)
        rows.append(
            {
                "kind": kind, "bytes": f"{kind_of(kind).bytes(arguments.dim):.0f}",
                "recall@10": f"{found['recall']:.4f}", "queries/s": f"{found['rate']:,.0f}",
                "p50 ms": f"{1e3 * found['p50']:.2f}", "build s": f"{built['seconds']:,.0f}",
                "memory building": show_size(built["memory"]),
                "memory searching": show_size(found["memory"]),
                "nprobe": built["nprobe"], "depth": built["depth"],
            }
        )  # fmt: skip
    return rows


def child(step: str, kind: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one step in its own process; existing results are reused, except those of searches."""
    record = folder / f"{step}-{kind}.json"
    if step != "search" and (found := _read(record)):
        return dict(found)
    command = [
        sys.executable, "-m", "benchmarks.index_scale", "--step", step, kind, "--folder", str(folder),
        "--rows", str(arguments.rows), "--dim", str(arguments.dim), "--recall", str(arguments.recall),
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result = dict(json.loads(done.stdout.splitlines()[-1]))
    write_json(record, result)
    return result


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def draw(folder: Path, arguments: argparse.Namespace) -> None:
    """Write the vectors, and two sets of queries: one to tune the search, one to measure it."""
    rng = np.random.default_rng(0)
    real = _real(arguments, rng)
    writer = VectorWriter(folder / VECTORS_FILE, _layout(arguments))
    for start in range(0, arguments.rows, _BLOCK):
        count = min(_BLOCK, arguments.rows - start)
        there = real[start : start + count]
        made = _around(real, rng, count - len(there)) if count > len(there) else real[:0]
        writer.write(start, np.vstack([there, made]))
    writer.close()
    for name in ("set_by", "measured"):
        np.save(folder / f"{name}.npy", _around(real, rng, _QUERIES))


def _real(arguments: argparse.Namespace, rng: np.random.Generator) -> Vectors:
    if arguments.index:
        store = Index(arguments.index).default.store
        return store.slice(0, min(len(store), arguments.rows))
    centres = rng.normal(size=(2_000, arguments.dim))
    order = np.sort(rng.integers(0, len(centres), min(200_000, arguments.rows // 2)))
    return _unit(centres[order] + 0.8 * rng.normal(size=(len(order), arguments.dim)))


def _around(real: Vectors, rng: np.random.Generator, count: int) -> Vectors:
    first = rng.integers(0, len(real), count)
    second = np.clip(first + rng.integers(-500, 501, count), 0, len(real) - 1)
    noise = rng.normal(size=(count, real.shape[1])) * 0.2 / np.sqrt(real.shape[1])
    return _unit(real[first] + 0.7 * real[second] + noise)


def _unit(vectors: Any) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _layout(arguments: argparse.Namespace) -> VectorLayout:
    return VectorLayout(arguments.rows, arguments.dim, "fp16")


def _truth(folder: Path, kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    store = VectorStore(folder / VECTORS_FILE, _layout(arguments))
    queries = np.load(folder / "measured.npy")
    with Watch() as watch:
        start = time.perf_counter()
        _, rows = search_exact(queries, store, K)
        seconds = time.perf_counter() - start
    np.save(folder / "truth.npy", rows)
    return {"rate": len(queries) / seconds, "memory": watch.peak}


def _build(folder: Path, kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    # This imports the encoder and torch, which a search does not need.
    from wiki_index.steps.tune import tune

    store = VectorStore(folder / VECTORS_FILE, _layout(arguments))
    place = _place(folder, kind)
    with Watch() as watch:
        start = time.perf_counter()
        made = make_index(place, kind, store)
        seconds = time.perf_counter() - start
        encoder = EncoderCard("drawn", "", arguments.dim, 0, "", "")
        card = DenseCard(encoder, kind, made.factory, "fp16", trained_on=made.trained_on)
        dense = Dense(place, card, len(store))
        card = tune(dense, np.load(folder / "set_by.npy")[:512], arguments.recall)
    (place / "search.json").write_text(json.dumps({"nprobe": card.nprobe, "depth": card.depth}))
    return {"seconds": seconds, "memory": watch.peak, "nprobe": card.nprobe, "depth": card.depth}


def _search(folder: Path, kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    place = _place(folder, kind)
    encoder = EncoderCard("drawn", "", arguments.dim, 0, "", "")
    setting = json.loads((place / "search.json").read_text())
    dense = Dense(place, DenseCard(encoder, kind, "", "fp16", **setting), arguments.rows)
    queries, truth = np.load(folder / "measured.npy"), np.load(folder / "truth.npy")
    seconds, singles = [], []
    with Watch() as watch:
        for _ in range(4):
            start = time.perf_counter()
            _, rows = dense.search(queries, K)
            seconds.append(time.perf_counter() - start)
        for query in queries[::5]:
            start = time.perf_counter()
            dense.search(query[None], K)
            singles.append(time.perf_counter() - start)
    return {
        "recall": float((rows[:, :, None] == truth[:, None, :]).any(axis=2).mean(axis=1).mean()),
        # The first run reads the disk; only the others are reported.
        "rate": len(queries) / float(np.median(seconds[1:])),
        "p50": float(np.median(singles)),
        "memory": watch.peak,
    }


def _place(folder: Path, kind: str) -> Path:
    place = folder / kind
    place.mkdir(exist_ok=True)
    if not (place / VECTORS_FILE).exists():
        (place / VECTORS_FILE).symlink_to((folder / VECTORS_FILE).absolute())
    return place


_STEPS: dict[str, Callable[[Path, str, argparse.Namespace], dict[str, Any]]] = {
    "truth": _truth,
    "build": _build,
    "search": _search,
}


if __name__ == "__main__":
    sys.exit(run_program(main))
