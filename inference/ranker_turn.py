"""One ranker and the questions that it is asked, in batches, for as long as its time lasts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import numpy.typing as npt

from inference.predictions import PredictionStore
from inference.run_log import Clock, Stage
from kaggle_rag.config import RankerSettings, Solution
from kaggle_rag.data.contexts import QuestionContexts
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.ensembling.cascade import Gate
from kaggle_rag.rankers.base import AnswersWithin, Note, Ranker, TellsNeed, Workspace, summed
from kaggle_rag.rankers.identity import identity
from kaggle_rag.rankers.registry import make_ranker, takes_index
from kaggle_rag.rankers.resources import Resources
from kaggle_rag.runtime.console import duration, overall
from kaggle_rag.runtime.files import fields_sha256
from kaggle_rag.runtime.limits import require
from kaggle_rag.runtime.words import counted

# Bytes of a ranker's weights above which the index is closed first: reopening it takes a second.
_LARGE = 200_000_000
# Questions asked at once: sorted by length among themselves, and kept when they are answered.
_BATCH = 512
# Where time is limited, the first batch shows the pace, and none takes more than so many seconds.
_FIRST, _SECONDS = 16, 30.0
Rows = npt.NDArray[np.int64]


class RankerTurn(NamedTuple):
    """A ranker, and what it is asked, in the order of ``gate``.

    ``until`` is how much time must be left when it ends, in seconds.
    """

    name: str
    settings: RankerSettings
    questions: Questions
    contexts: Sequence[QuestionContexts | None] | None
    until: float
    gate: Gate = Gate()

    def answer(
        self, resources: Resources, stage: Stage, table: Probabilities, so_far: Probabilities | None,
        clock: Clock, store: PredictionStore | None,
    ) -> None:  # fmt: skip
        """Fill in ``table`` ``(n, k)`` where it is NaN, the questions that are least certain so far first.

        ``so_far`` is the blend of the rankers before; ``None`` where none of them has answered anything.
        """
        # A search that ran out of time leaves questions without a context; a later run may find them.
        lacking = [row for row, each in enumerate(self.contexts or ()) if each is None]
        made_by = made_by_of(self.settings, resources.solution, lacking)
        blended = blended_as(self.settings, resources.solution)
        if store:
            np.copyto(table, store.load(self.name, made_by))
            if np.isfinite(table).any():
                store.blend_as(self.name, table, made_by, blended)
        rows = np.flatnonzero(np.isnan(table).any(axis=1))
        if so_far is not None:
            rows = self.gate.order(so_far, rows)
        stage.questions = len(table) - len(rows)
        if not len(rows):
            stage.note = f"{self.name}: all {counted(len(table), 'answer was', 'answers were')} there already"
            return
        # One ranker answers a few questions in any case: without them there is no submission.
        if so_far is not None and clock.left() <= 0:
            stage.note = self._note(stage.questions, clock)
            return
        notes: list[Note] = []
        with self._opened(resources, store) as ranker:
            for batch, answers in self._answers(ranker, rows, clock):
                notes += ranker.notes
                table[batch] = answers
                stage.questions = int(np.isfinite(table).all(axis=1).sum())
                if store:
                    store.save(self.name, table, made_by, blended)
        for note in summed(notes):
            print(f"note: {note}", file=sys.stderr)
        if clock.limit is not None and stage.questions < len(table):
            stage.note = self._note(stage.questions, clock)

    def _note(self, answered: int, clock: Clock) -> str:
        """What a limit of time left out."""
        if not answered:
            return (
                f"{self.name} was skipped: the {duration(max(clock.left() - self.until, 0))} that it could "
                "take are too short for any question: limits.time"
            )
        of_all = f"{answered:,} least certain of {counted(len(self.questions), 'question')}"
        return f"{self.name} answered the {of_all}: limits.time"

    def _opened(self, resources: Resources, store: PredictionStore | None) -> Ranker:
        return unopened(self.settings, resources, store.unfinished(self.name) if store else None)

    def _answers(self, ranker: Ranker, rows: Rows, clock: Clock) -> Iterator[tuple[Rows, Probabilities]]:
        """Rows and their probabilities, as they are answered."""
        if is_read_once(ranker):
            yield from self._passes(ranker, rows, clock)
            return
        # A bar over a few questions would only flicker.
        with overall(len(rows), f"rank: {self.name}", "question", disable=len(rows) < 100) as bar:
            for batch in self._batches(rows, clock):
                yield batch, ranker.probabilities(*self._given(batch))
                bar.update(len(batch))

    def _passes(
        self, ranker: AnswersWithin, rows: Rows, clock: Clock
    ) -> Iterator[tuple[Rows, Probabilities]]:
        """One pass over all of them, and another for those that had no room or that a killed run left out."""
        while len(rows):
            table, asked = ranker.within(*self._given(rows), lambda: clock.left() - self.until)
            if not asked.any():
                return
            yield rows[asked], table[asked]
            rows = rows[~asked]

    def _given(self, rows: Rows) -> tuple[Questions, Sequence[QuestionContexts | None] | None]:
        return self.questions.take(rows), self.contexts and [self.contexts[row] for row in rows]

    def _batches(self, rows: Rows, clock: Clock) -> Iterator[Rows]:
        """Batches until there are no more rows, or no more time."""
        limited = clock.limit is not None
        size, start = _FIRST if limited else _BATCH, 0
        while start < len(rows) and (start == 0 or clock.left() > self.until):
            began = time.perf_counter()
            yield rows[start : start + size]
            pace = (time.perf_counter() - began) / len(rows[start : start + size])
            if limited and start == 0:
                self._forecast(pace, len(rows), clock)
            start += size
            if limited:
                spare = max(clock.left() - self.until, 0.0)
                size = int(np.clip(min(_SECONDS, spare / 2) / max(pace, 1e-9), 1, _BATCH))

    def _forecast(self, pace: float, count: int, clock: Clock) -> None:
        fits = int(max(clock.left() - self.until, 0) / max(pace, 1e-9))
        then = "all fit" if fits >= count else f"about {fits:,} of them fit, {self.gate}"
        print(
            f"{self.name}: about {duration(pace * count)} for {counted(count, 'question')}; {then}",
            file=sys.stderr,
        )


def unopened(settings: RankerSettings, resources: Resources, folder: Path | None = None) -> Ranker:
    """A ranker that fits; what a large one does not use is closed before it is opened.

    ``folder`` is where it may keep files from which a killed run goes on.
    """
    if takes_index(settings.kind):
        resources.open_again()
    ranker = make_ranker(
        settings.kind, settings.options, encoder=resources.encoder, index=resources.index,
        workspace=workspace(resources.solution, folder),
    )  # fmt: skip
    if require_room(ranker, resources.solution) > _LARGE:
        resources.close()
    return ranker


def made_by_of(settings: RankerSettings, solution: Solution, lacking: Sequence[int]) -> dict[str, Any]:
    """What decides a ranker's answers; ``lacking`` are the rows of questions without a context."""
    return {
        **identity(settings.kind, settings.options, solution.encoder),
        "without context": fields_sha256({"rows": [*lacking]}) if lacking else 0,
    }


def blended_as(settings: RankerSettings, solution: Solution) -> RankerSettings:
    """A stack reads probabilities as they are, whatever calibration is set for a blend."""
    return settings.model_copy(update={"temperature": 1.0, "vector": None}) if solution.stack else settings


def is_read_once(ranker: Ranker) -> TypeGuard[AnswersWithin]:
    """Whether a ranker reads its model once for all questions that it is asked."""
    return isinstance(ranker, AnswersWithin) and ranker.reads_once


def workspace(solution: Solution, folder: Path | None = None) -> Workspace:
    """What a ranker may use within the limits."""
    limits = solution.limits
    return Workspace(folder, limits.ram, limits.gpu, limits.disk)


def require_room(ranker: Ranker, solution: Solution) -> int:
    """Refuse a ranker that does not fit within the limits; return the bytes of its weights."""
    if not isinstance(ranker, TellsNeed):
        return 0
    need = ranker.need()
    require(need, ram=solution.limits.ram, gpu=solution.limits.gpu, disk=solution.limits.disk)
    return need.weights
