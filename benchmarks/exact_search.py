"""Exact search of all stored vectors, as ``--exact`` does it: on the GPU, and on the CPU beside it."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import parser, report, timed, where
from benchmarks.search_table import K, draw
from kaggle_rag.index.dense import VECTORS_FILE
from kaggle_rag.index.exact import search_exact
from kaggle_rag.index.vectors import VectorLayout, VectorStore
from kaggle_rag.runtime.errors import run_program, show_size

_DIM = 384


def main() -> int:
    flags = parser(__doc__ or "")
    flags.add_argument("--millions", type=float, default=1, metavar="N", help="vectors (default: 1)")
    flags.add_argument("--folder", type=Path, help="where to store the vectors (default: a temporary folder)")
    arguments = flags.parse_args()
    rows = round(1e6 * (0.02 if arguments.quick else arguments.millions))
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    table = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        folder = Path(made)
        draw(folder, rows, _DIM)
        queries = np.load(folder / "queries.npy")
        store = VectorStore(folder / VECTORS_FILE, VectorLayout(rows, _DIM, "fp16"))
        first = None
        for device in devices:
            search = partial(search_exact, queries, store, K, device=device)
            (_, found), seconds, peak = timed(device, search, repeats=2)
            first = first or (found, seconds)
            table.append(
                {
                    "device": device, "queries/s": f"{len(queries) / seconds:,.0f}",
                    "ratio": f"{first[1] / seconds:.2f}", "peak RAM": show_size(peak),
                    f"recall@{K}": f"{(found[:, :, None] == first[0][:, None]).any(2).mean():.4f}",
                }
            )  # fmt: skip
    note = (
        f"{where()}; {len(queries)} queries at once, {rows:,} random vectors of {_DIM} dimensions in fp16; "
        "recall of the CPU's answers."
    )
    report("Exact search", table, arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
