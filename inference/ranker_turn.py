"""One ranker and the questions that it is asked, in batches, for as long as its time lasts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from inference.predictions import PredictionStore
from inference.run_log import Clock, Stage
from kaggle_rag.config import RankerSettings, Solution
from kaggle_rag.data.contexts import QuestionContexts
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.rankers.base import Ranker, TellsNeed
from kaggle_rag.rankers.identity import identity
from kaggle_rag.rankers.registry import make_ranker, takes_index
from kaggle_rag.rankers.resources import Resources
from kaggle_rag.runtime.console import duration, overall
from kaggle_rag.runtime.limits import require

# Bytes of a ranker's weights above which the index is closed first: reopening it takes a second.
_LARGE = 200_000_000
# Questions asked at once: sorted by length among themselves, and kept when they are answered.
_BATCH = 512
# Where time is limited, the first batch shows the pace, and none takes more than so many seconds.
_FIRST, _SECONDS = 16, 30.0
Rows = npt.NDArray[np.int64]


class RankerTurn(NamedTuple):
    """A ranker, and what it is asked; ``until`` is how much time must be left when it ends, in seconds."""

    name: str
    settings: RankerSettings
    questions: Questions
    contexts: Sequence[QuestionContexts | None] | None
    until: float

    def answer(
        self, resources: Resources, stage: Stage, table: Probabilities, so_far: Probabilities | None,
        clock: Clock, store: PredictionStore | None,
    ) -> None:  # fmt: skip
        """Fill in ``table`` ``(n, k)`` where it is NaN, the questions that are least certain so far first."""
        # A search that ran out of time leaves questions without a context; a later run may find them.
        made_by = {
            **identity(self.settings.kind, self.settings.options, resources.solution.encoder),
            "without context": sum(each is None for each in self.contexts or ()),
        }
        if store:
            np.copyto(table, store.load(self.name, made_by))
        rows = least_certain(so_far, np.flatnonzero(np.isnan(table).any(axis=1)))
        stage.questions = len(table) - len(rows)
        if not len(rows):
            stage.note = f"{self.name}: all {len(table):,} answers were there already"
            return
        # A bar over a few questions would only flicker.
        bar_of_all = overall(len(rows), f"rank: {self.name}", "question", disable=len(rows) < 100)
        with self._opened(resources) as ranker, bar_of_all as bar:
            for batch in self._batches(rows, clock, getattr(ranker, "questions_at_once", _BATCH)):
                table[batch] = ranker.probabilities(
                    self.questions.take(batch), self.contexts and [self.contexts[row] for row in batch]
                )
                stage.questions += len(batch)
                bar.update(len(batch))
                if store:
                    store.save(self.name, table, made_by, self.settings.weight)
            for note in ranker.notes:
                print(f"note: {note}", file=sys.stderr)
        if stage.questions < len(table):
            stage.note = (
                f"{self.name} answered the {stage.questions:,} least certain of {len(table):,} questions: "
                "limits.time"
            )

    def _opened(self, resources: Resources) -> Ranker:
        kind, options = self.settings.kind, self.settings.options
        if takes_index(kind):
            resources.open_again()
        unopened = make_ranker(kind, options, encoder=resources.encoder, index=resources.index)
        if require_room(unopened, resources.solution) > _LARGE:
            resources.close()
        return unopened

    def _batches(self, rows: Rows, clock: Clock, most: int | None) -> Iterator[Rows]:
        """Batches of at most ``most`` rows until there are no more, or no more time."""
        if most is None:
            yield rows
            return
        limited = clock.limit is not None
        size, start = _FIRST if limited else most, 0
        while start < len(rows) and (start == 0 or clock.left() > self.until):
            began = time.perf_counter()
            yield rows[start : start + size]
            pace = (time.perf_counter() - began) / len(rows[start : start + size])
            if limited and start == 0:
                self._forecast(pace, len(rows), clock)
            start += size
            if limited:
                spare = max(clock.left() - self.until, 0.0)
                size = int(np.clip(min(_SECONDS, spare / 2) / max(pace, 1e-9), 1, most))

    def _forecast(self, pace: float, count: int, clock: Clock) -> None:
        fits = int(max(clock.left() - self.until, 0) / max(pace, 1e-9))
        then = "all fit" if fits >= count else f"about {fits:,} of them fit"
        print(f"{self.name}: about {duration(pace * count)} for {count:,} questions; {then}", file=sys.stderr)


def least_certain(so_far: Probabilities | None, rows: Rows) -> Rows:
    """Rows by the margin between their two most likely options, the smallest first; ties in order."""
    if so_far is None or so_far.shape[1] < 2:
        return rows
    best = np.sort(so_far[rows], axis=1)
    return rows[np.argsort(best[:, -1] - best[:, -2], kind="stable")]


def require_room(ranker: Ranker, solution: Solution) -> int:
    """Refuse a ranker that does not fit within the limits; return the bytes of its weights."""
    if not isinstance(ranker, TellsNeed):
        return 0
    need = ranker.need()
    require(need, ram=solution.limits.ram, gpu=solution.limits.gpu)
    return need.weights
