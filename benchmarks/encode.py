"""Sentences per second: sentence-transformers' own encode, ours, and the limit of the matrix products."""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.common import parser, report, timed
from kaggle_rag.data.tables import read_rows
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.models.devices import dtype_of
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.runtime.limits import show_size
from kaggle_rag.runtime.words import counted
from kaggle_rag.sample import ARTICLES
from kaggle_rag.text.units import Splitter, Unit

# Rows of the matrix product that measures the limit: the tokens of a batch on a CPU.
_ROWS = 512


def texts_of(folder: str | None, count: int) -> list[str]:
    """Sentences spread over an index, or those of the embedded sample."""
    if folder:
        index = Index(folder, verify_content=False)
        return [index.passages[int(row)].text for row in np.linspace(0, len(index) - 1, count)]
    split = Splitter(Unit("sentence"))
    return [text for row in read_rows(ARTICLES) for text in split(row["text"])][:count]


def operations(encoder: Encoder, texts: Sequence[str]) -> float:
    """Floating-point operations of a BERT's matrix products over the texts, without padding.

    Two per weight of a layer's linear maps and token, and 4 · width · length² for the two
    products of attention.
    """
    bert = encoder.model[0].auto_model
    weights = sum(m.weight.numel() for m in bert.encoder.modules() if isinstance(m, torch.nn.Linear))
    ids = encoder.model.tokenizer(list(texts), truncation=True, max_length=encoder.card.max_tokens)
    lengths = np.array([len(row) for row in ids["input_ids"]], dtype=float)
    attention = 4 * bert.config.hidden_size * bert.config.num_hidden_layers
    return float(2 * weights * lengths.sum() + attention * (lengths**2).sum())


def products(encoder: Encoder, precision: str, seconds: float = 0.5) -> float:
    """Floating-point operations per second of the encoder's largest matrix product, by torch."""
    config = encoder.model[0].auto_model.config
    kind = {"device": encoder.device, "dtype": dtype_of(precision)}
    left = torch.randn(_ROWS, config.hidden_size, **kind)
    weight = torch.randn(config.intermediate_size, config.hidden_size, **kind)
    out, times = torch.empty(_ROWS, config.intermediate_size, **kind), []
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        torch.mm(left, weight.T, out=out)
        if encoder.device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * left.shape[0] * weight.numel() / statistics.median(times)


@dataclasses.dataclass
class Contender:
    """One way of encoding, and its measurements."""

    name: str
    precision: str
    encode: Callable[[], Any]
    seconds: list[float] = dataclasses.field(default_factory=list)
    peak: int = 0
    vectors: Any = None


def contenders(encoder: Encoder, texts: Sequence[str]) -> list[Contender]:
    own = Contender(
        "sentence-transformers encode, batch 32", "fp32",
        lambda: encoder.model.encode(texts, batch_size=32, normalize_embeddings=True),
    )  # fmt: skip
    found = [own, Contender("kaggle-rag", "fp32", lambda: encoder.encode_passages(texts))]
    reduced = Encoder(device=encoder.device, precision="auto")
    if (quick := reduced.card.precision) != "fp32":
        found.append(Contender("kaggle-rag", quick, lambda: reduced.encode_for_index(texts)))
    return found


def rows_of(found: Sequence[Contender], limits: dict[str, float], count: int) -> list[dict[str, str]]:
    """One row per contender, followed by the limit of each precision."""
    first, rows = found[0], []
    for each in found:
        speed = count / statistics.median(each.seconds)
        rows.append(
            {"method": each.name, "precision": each.precision, "sentences/s": f"{speed:.0f}",
             "ratio": f"{speed * statistics.median(first.seconds) / count:.2f}",
             "of the limit": f"{speed / limits[each.precision]:.0%}", "peak RAM": show_size(each.peak),
             "least cosine": f"{(each.vectors * first.vectors).sum(1).min():.6f}"}
        )  # fmt: skip
    for precision, limit in limits.items():
        ratio = limit * statistics.median(first.seconds) / count
        rows.append(
            {"method": "limit: its matrix products alone", "precision": precision,
             "sentences/s": f"{limit:.0f}", "ratio": f"{ratio:.2f}"}
        )  # fmt: skip
    return rows


def main() -> int:
    flags = parser(str(__doc__))
    flags.add_argument("--index", help="take sentences from this index (default: the embedded sample)")
    arguments = flags.parse_args()
    encoder = Encoder()
    texts = texts_of(arguments.index, 200 if arguments.quick else 1_000)
    found = contenders(encoder, texts)
    rates: dict[str, list[float]] = {each.precision: [] for each in found}
    # Alternating, because the machine's other load changes by the minute; the median of the rounds.
    for _ in range(2 if arguments.quick else 5):
        for precision, measured in rates.items():
            measured.append(products(encoder, precision))
        for each in found:
            each.vectors, seconds, peak = timed(each.name, each.encode, 1)
            each.seconds.append(seconds)
            each.peak = max(each.peak, peak)
    work = operations(encoder, texts) / len(texts)
    limits = {precision: statistics.median(measured) / work for precision, measured in rates.items()}
    note = (
        f"{len(texts):,} sentences on {encoder.device}, {counted(torch.get_num_threads(), 'thread')}; "
        f"cosines to the first row. The limit is {work / 1e9:.2f} billion operations a sentence at the rate "
        f"of torch's ({_ROWS} × width) · (width × inner width) in the same run; each row is held to its "
        "precision's."
    )
    report("Encoding", rows_of(found, limits, len(texts)), arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
