"""Costs and benefits of each kind of index: recall, speed, memory, and the resulting answers.

Retrieval is judged by answers, so besides recall@k against exact search there is the MAP@3 of the
similarity ranker on the retrieved contexts, with its paired difference from exact search.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_rag.config import ContextSettings
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.metrics import average_precision_at_k, paired_bootstrap, ranks_of_answers
from kaggle_rag.index.dense import VECTORS_FILE, Dense
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.index.kinds import kind_of, ram_of, simpler, unfit
from kaggle_rag.index.manifest import DenseCard
from kaggle_rag.index.vectors import Vectors
from kaggle_rag.rankers.similarity import SimilarityRanker
from kaggle_rag.retrieval.queries import queries_of
from kaggle_rag.retrieval.retriever import Retriever
from kaggle_rag.runtime.console import over, progress
from kaggle_rag.runtime.errors import show_size
from kaggle_rag.runtime.files import require_space
from kaggle_rag.runtime.limits import anonymous_memory, release
from wiki_index.steps.dense_index import make_index
from wiki_index.steps.tune import halves, tune

EXACT = "exact"
_BATCHES, _SINGLE, _SINGLE_EXACT = 3, 200, 5
Precisions = npt.NDArray[np.float64]
OnRows = Callable[[int], object] | None


@dataclasses.dataclass(frozen=True)
class Row:
    """One kind, in plain seconds and bytes; ``map3`` and ``difference`` only if answers are known."""

    kind: str
    bytes_per_vector: float
    recall: float
    p50: float
    p99: float
    queries_per_second: float
    memory: int
    nprobe: int
    depth: int
    map3: float | None = None
    difference: str = ""


@dataclasses.dataclass(frozen=True)
class MeasureReport:
    """Exact search, then each kind."""

    rows: tuple[Row, ...]

    def as_json(self) -> dict[str, Any]:
        """A dictionary a kind."""
        return {"rows": [dataclasses.asdict(row) for row in self.rows]}

    def text(self) -> str:
        """A Markdown table."""
        rows = self.rows
        names = ["kind", "bytes", "recall", "p50 ms", "p99 ms", "queries/s", "memory", "nprobe", "depth"]
        names += ["MAP@3", "against exact"] if any(row.map3 is not None for row in rows) else []
        cells = [
            [
                row.kind, f"{row.bytes_per_vector:.0f}", f"{row.recall:.4f}", f"{1e3 * row.p50:.2f}",
                f"{1e3 * row.p99:.2f}", f"{row.queries_per_second:,.0f}", show_size(row.memory),
                str(row.nprobe), str(row.depth),
                "" if row.map3 is None else f"{row.map3:.4f}", row.difference,
            ][: len(names)]
            for row in rows
        ]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(names, *cells)]
        lines = [names, ["-" * width for width in widths], *cells]
        return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths)) + " |" for line in lines)


class Meter:
    """Measures dense retrievers over one index with the same queries and the same questions.

    Parameters
    ----------
    questions : what to ask; halves of passages if ``None``.
    k : passages per query.
    folder : where kinds other than the index's own are built and then removed.
    """

    def __init__(
        self, index: Index, encoder: Encoder, questions: Questions | None, k: int, folder: Path
    ) -> None:
        self.index, self.encoder, self.questions, self.k = index, _CachingEncoder(encoder), questions, k
        self.folder = folder
        self.queries = self._queries()
        with progress(len(index), "exact answers", "passage") as bar:
            self.truth = index.default.search_exact(self.queries, k, on_rows=bar.update)[1]

    def report(self, kinds: Sequence[str], recall: float) -> MeasureReport:
        """Exact search, then each kind.

        Parameters
        ----------
        kinds : see `kaggle_rag.index.kinds.kind_of`; others than the index's own are built temporarily.
        recall : target recall@10 of the search parameters, tuned on other queries than the measured ones.
        """
        dim = self.queries.shape[1]
        measurable = list(dict.fromkeys(simpler(kind, len(self.index), dim) for kind in kinds))
        for kind in dict.fromkeys(kinds):
            if (substitute := simpler(kind, len(self.index), dim)) != kind:
                reason = unfit(kind, len(self.index), dim)
                print(f"note: {kind} is not measured: {reason}; {substitute} is instead", file=sys.stderr)
        require_space(self.folder, max(ram_of(kind, len(self.index), dim) for kind in measurable) * 2)
        exact = self._answers(self.index.default, exact=True)
        rows = [self._row(EXACT, self.index.default, anonymous_memory(), exact, None)]
        with tempfile.TemporaryDirectory(prefix="measure-", dir=self.folder) as scratch:
            for kind in over(measurable, "kinds", "kind"):
                card = self._card(kind, recall, Path(scratch) / kind)
                release()
                before = anonymous_memory()
                dense = Dense(self._folder(kind, Path(scratch) / kind), card, len(self.index))
                rows.append(self._row(kind, dense, before, self._answers(dense), exact))
        return MeasureReport(tuple(rows))

    def _queries(self) -> Vectors:
        if self.questions is None:
            return halves(self.index.passages, self.encoder, offset=1)
        settings = ContextSettings()
        queries = queries_of(self.questions, settings.forms, settings.instruction_forms)
        return self.encoder.encode_queries([query.text for each in queries for query in each])

    def _folder(self, kind: str, aside: Path) -> Path:
        return self.index.default.folder if self.index.default.card.kind == kind else aside

    def _card(self, kind: str, recall: float, aside: Path) -> DenseCard:
        """The index's own card if it is of that kind, else that of an index built in ``aside``."""
        default = self.index.default
        if default.card.kind == kind:
            return default.card
        aside.mkdir()
        (aside / VECTORS_FILE).symlink_to((default.folder / VECTORS_FILE).absolute())
        spec = make_index(aside, kind, default.store)
        card = dataclasses.replace(
            default.card, kind=kind, factory=spec.factory, trained_on=spec.trained_on, nprobe=0, depth=0
        )
        if not kind_of(kind).refined:
            return card
        return tune(Dense(aside, card, len(self.index)), halves(self.index.passages, self.encoder), recall)

    def _row(
        self, kind: str, dense: Dense, before: int, own: Precisions | None, exact: Precisions | None
    ) -> Row:
        search: Any = dense.search_exact if kind == EXACT else dense.search
        seconds, rows = [], self.truth
        for _ in range(_BATCHES):
            start = time.perf_counter()
            rows = search(self.queries, self.k)[1]
            seconds.append(time.perf_counter() - start)
        singles = self._singles(search, _SINGLE_EXACT if kind == EXACT else _SINGLE)
        layout = dense.store.layout
        return Row(
            kind=kind,
            bytes_per_vector=layout.row_bytes if kind == EXACT else kind_of(kind).bytes(layout.dim),
            recall=sum(len(np.intersect1d(*each)) for each in zip(rows, self.truth)) / self.truth.size,
            p50=float(np.percentile(singles, 50)),
            p99=float(np.percentile(singles, 99)),
            queries_per_second=len(self.queries) / float(np.median(seconds)),
            memory=max(0, anonymous_memory() - before),
            nprobe=0 if kind == EXACT else dense.card.nprobe,
            depth=0 if kind == EXACT else dense.card.depth,
            map3=None if own is None else float(own.mean()),
            difference="" if own is None or exact is None else str(paired_bootstrap(own, exact)),
        )

    def _singles(self, search: Any, count: int) -> list[float]:
        """Seconds of single queries."""
        seconds = []
        for query in self.queries[:: max(1, len(self.queries) // count)][:count]:
            start = time.perf_counter()
            search(query[None], self.k)
            seconds.append(time.perf_counter() - start)
        return seconds

    def _answers(self, dense: Dense, exact: bool = False) -> Precisions | None:
        """Average precision of each question, answered from this retriever's contexts."""
        if self.questions is None or not self.questions.has_answers:
            return None
        index = self.index.with_default(dense)
        retriever = Retriever(index, self.encoder, ContextSettings(exact=exact))
        contexts = retriever(self.questions, progress=True)
        with SimilarityRanker(self.encoder, index) as ranker:
            table = ranker.probabilities(self.questions, contexts)
        ranks = ranks_of_answers(table, self.questions.answers, self.questions.present)
        return average_precision_at_k(ranks)


class _CachingEncoder(Encoder):
    """An encoder that encodes each text once, since every kind gets the same questions."""

    def __init__(self, encoder: Encoder) -> None:
        self.__dict__.update(vars(encoder))
        self._cache: dict[tuple[str, str], Vectors] = {}

    def encode_queries(self, texts: Sequence[str], *, on_rows: OnRows = None) -> Vectors:
        return self._cached("query", super().encode_queries, texts, on_rows)

    def encode_passages(self, texts: Sequence[str], *, on_rows: OnRows = None) -> Vectors:
        return self._cached("passage", super().encode_passages, texts, on_rows)

    def _cached(
        self, role: str, encode: Callable[[Sequence[str]], Vectors], texts: Sequence[str], on_rows: OnRows
    ) -> Vectors:
        new = [text for text in dict.fromkeys(texts) if (role, text) not in self._cache]
        self._cache.update(zip([(role, text) for text in new], encode(new)))
        if on_rows:
            on_rows(len(texts))
        vectors = np.empty((len(texts), self.card.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self._cache[role, text]
        return vectors
