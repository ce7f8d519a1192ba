"""Sentences a second: sentence-transformers' own encode against batches cut by tokens."""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.common import parser, report, timed
from kaggle_rag.errors import run_program
from kaggle_rag.limits import show_size
from kaggle_rag.retrieval.encoder import Encoder
from kaggle_rag.retrieval.index import Index
from kaggle_rag.retrieval.units import Splitter, Unit
from kaggle_rag.sample import ARTICLES
from kaggle_rag.tables import read_rows


def texts_of(folder: str | None, count: int) -> list[str]:
    """Sentences spread over an index, or those of the embedded sample."""
    if folder:
        index = Index(folder, verify_content=False)
        return [index.passages[int(row)].text for row in np.linspace(0, len(index) - 1, count)]
    split = Splitter(Unit("sentence"))
    return [text for row in read_rows(ARTICLES) for text in split(row["text"])][:count]


def main() -> int:
    flags = parser(str(__doc__))
    flags.add_argument("--index", help="take sentences of this index (default: the embedded sample)")
    arguments = flags.parse_args()
    encoder = Encoder()
    texts = texts_of(arguments.index, 300 if arguments.quick else 4_000)
    repeats = 1 if arguments.quick else 3
    own, own_seconds, own_peak = timed(
        "sentence-transformers", lambda: encoder.model.encode(texts, batch_size=32), repeats
    )
    mine, seconds, peak = timed("kaggle-rag", lambda: encoder.encode_passages(texts), repeats)
    rows = [
        {"method": "sentence-transformers encode, batch 32",
         "sentences/s": f"{len(texts) / own_seconds:.0f}",
         "ratio": "1", "peak RAM": show_size(own_peak)},
        {"method": "kaggle-rag, batches by tokens", "sentences/s": f"{len(texts) / seconds:.0f}",
         "ratio": f"{own_seconds / seconds:.2f}", "peak RAM": show_size(peak)},
    ]  # fmt: skip
    cosine = (own * mine).sum(1).min()
    note = f"{len(texts):,} sentences on {encoder.device}; least cosine between both {cosine:.6f}."
    report("Encoding", rows, arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
