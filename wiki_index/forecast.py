"""What a build needs: the kind that fits a budget, disk, RAM, and a forecast before anything is written."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import time
from typing import Any

import numpy as np

from kaggle_rag.index.dense import VECTORS_FILE
from kaggle_rag.index.kinds import choose, kind_of, ram_of, simpler, unfit
from kaggle_rag.index.vectors import VectorLayout
from kaggle_rag.runtime.console import over
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.files import require_space
from kaggle_rag.runtime.limits import Need, require
from wiki_index.plan import BASE_RAM, Plan

# Bytes on disk for each byte of a passage's text: itself with what is stored beside it, and its postings if
# BM25 is built. Measured on sentences of Wikipedia, of 130 bytes each.
_TEXT, _WORDS = 1.15, 1.0
_EVERY, _SAMPLE = 50, 512


def kinds_for(plan: Plan, rows: int) -> dict[str, str]:
    """The kind of each retriever's index: the one requested, or the one that fits the budget.

    Raises
    ------
    LimitError : the budget is too small; the message gives the minimum that works.
    """
    return {name: _kind(plan, rows, encoder.card.dim) for name, encoder in plan.encoders.items()}


def _kind(plan: Plan, rows: int, dim: int) -> str:
    if plan.kind is None:
        return choose(rows, dim, plan.ram, BASE_RAM) if plan.ram else "flat"
    kind = simpler(plan.kind, rows, dim)
    if kind != plan.kind:
        print(f"--index {plan.kind}: {unfit(plan.kind, rows, dim)}; building {kind} instead", file=sys.stderr)
    tell_slow(kind)
    require(
        Need("index", BASE_RAM + ram_of(kind, rows, dim), "raise --ram, or leave --index out"), ram=plan.ram
    )
    return kind


def tell_slow(kind: str) -> None:
    """Warn of kinds that are pointless without vector instructions (they still work)."""
    if not kind_of(kind).in_registers:
        return
    import faiss

    if faiss.SIMDConfig.get_level_name() == "NONE":
        print(
            f"--index {kind}: FAISS finds neither AVX2 nor NEON on this processor; the index will be right, "
            "but searching it about six times slower than with them. --index ivf-sq8 loses less.",
            file=sys.stderr,
        )


def precision_of(plan: Plan, kind: str) -> str:
    return plan.vectors or kind_of(kind).vectors


def stored_in(plan: Plan) -> str | None:
    """The precision of the stored vectors, ``None`` if a budget has yet to determine the kind."""
    if plan.vectors or plan.kind or not plan.ram:
        return precision_of(plan, plan.kind or "flat")
    return None


def disk_of(plan: Plan, kind: str, rows: int, dim: int) -> int:
    """Bytes of vectors and index, and of the growing index if it is saved on the way."""
    times = 2 if kind_of(kind).grown else 1
    return rows * VectorLayout(rows, dim, precision_of(plan, kind)).row_bytes + times * ram_of(
        kind, rows, dim
    )


def check_disk(plan: Plan, kinds: dict[str, str], rows: int) -> None:
    """Raise, before the first vector, if the disk has too little room."""
    texts = sum(path.stat().st_size for path in (plan.work / "passages").rglob("*") if path.is_file())
    needed = round(texts * _WORDS) if plan.lexical else 0
    for name, kind in kinds.items():
        path = plan.dense(name) / VECTORS_FILE
        existing = path.stat().st_blocks * 512 if path.exists() else 0
        needed += disk_of(plan, kind, rows, plan.encoders[name].card.dim) - existing
    require_space(plan.work, needed)


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a build would need, estimated from a sample of the corpus."""

    articles: int
    passages: int
    seconds: float
    disk: int
    ram: int
    kinds: dict[str, str]
    workers: int


def forecast(plan: Plan) -> Forecast:
    """Read the corpus, split every 50th article, encode 512 passages, and extrapolate."""
    workers = _workers(plan)
    splitter = plan.splitter()
    articles = characters = sampled = 0
    sample: list[str] = []
    limited = itertools.islice(plan.corpus.articles(), plan.limit)
    for number, article in enumerate(over(limited, "dry run", "article")):
        articles, characters = articles + 1, characters + len(article.text)
        if number % _EVERY == 0 or len(sample) < _SAMPLE:
            sampled += len(article.text)
            sample += splitter(article.text, article.is_rendered)
    if not sample:
        raise InputError("no text in the sampled articles", where=plan.corpus.path)
    passages = round(len(sample) * characters / max(sampled, 1))
    kinds = kinds_for(plan, passages)
    dims = {name: encoder.card.dim for name, encoder in plan.encoders.items()}
    texts = passages * sum(len(text.encode()) for text in sample) / len(sample)
    return Forecast(
        articles,
        passages,
        sum(passages / _rate(encoder, sample) for encoder in plan.encoders.values()),
        round(texts * (_TEXT + _WORDS * plan.lexical))
        + sum(disk_of(plan, kind, passages, dims[name]) for name, kind in kinds.items()),
        BASE_RAM + max(ram_of(kind, passages, dims[name]) for name, kind in kinds.items()),
        kinds,
        workers,
    )


def _workers(plan: Plan) -> int:
    if plan.cluster is None:
        return 1
    from wiki_index.steps.ray_encode import workers

    return workers(plan.cluster)


def _rate(encoder: Any, sample: list[str]) -> float:
    """Measured passages per second."""
    texts = [sample[i] for i in np.linspace(0, len(sample) - 1, min(_SAMPLE, len(sample))).astype(int)]
    encoder.encode_for_index(texts[:32])
    start = time.perf_counter()
    encoder.encode_for_index(texts)
    return len(texts) / (time.perf_counter() - start)
