"""The plan of a submission: what each stage takes, how far it gets within the time, what it is worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from inference.run_log import SPARE
from inference.submit import SEARCHING
from kaggle_rag.evaluation.metrics import Interval
from kaggle_rag.runtime.console import duration
from kaggle_rag.runtime.errors import show_size
from kaggle_rag.runtime.words import counted


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """One stage, as measured: seconds to open it and per question, and its peaks in bytes.

    ``pace`` is that of the largest batch, ``fastest`` and ``slowest`` are those of all.
    """

    name: str
    opening: float
    pace: float
    fastest: float
    slowest: float
    ram_peak: int
    gpu_peak: int

    def seconds(self, questions: int, pace: float | None = None) -> float:
        """For so many questions."""
        return self.opening + questions * (self.pace if pace is None else pace)

    def within(self, seconds: float) -> int:
        """How many questions it gets to."""
        return max(0, int((seconds - self.opening) / max(self.pace, 1e-9)))


class Turn(NamedTuple):
    """A stage, and how many questions it gets to."""

    stage: StagePlan
    questions: int


@dataclasses.dataclass(frozen=True)
class SubmissionPlan:
    """The stages of a submission, in their order.

    Attributes
    ----------
    questions : how many there are to answer.
    starting : seconds until the first stage.
    searching : the search for contexts, if there is one.
    asking : the rankers, and the ``shares`` of the time left that each may take, see `Turns`.
    limit : seconds that the run may take.
    scores : expected MAP@3 after each ranker, by their out-of-fold predictions; ``None``: unknown.
    """

    questions: int
    starting: float
    searching: StagePlan | None
    asking: tuple[StagePlan, ...]
    shares: tuple[float, ...]
    limit: float | None
    scores: Sequence[Interval] | None = None

    def schedule(self) -> list[Turn]:
        """How far each stage gets: as `inference.predict` divides the time."""
        left = float("inf") if self.limit is None else self.limit * (1 - SPARE) - self.starting
        stages = [(self.searching, SEARCHING)] if self.searching else []
        turns = []
        for stage, share in [*stages, *zip(self.asking, self.shares)]:
            count = self.questions
            if self.limit is not None:
                count = min(count, stage.within(max(left, 0.0) * share))
            turns.append(Turn(stage, count))
            left -= stage.seconds(count)
        return turns

    @property
    def seconds(self) -> float:
        """What it takes, all stages together."""
        return self.starting + sum(stage.seconds(count) for stage, count in self.schedule())

    def as_json(self) -> dict[str, Any]:
        stages = [
            {
                **dataclasses.asdict(stage), "questions": count, "seconds": round(stage.seconds(count), 1)
            }
            for stage, count in self.schedule()
        ]  # fmt: skip
        for stage, score in zip(stages[-len(self.asking) :], self.scores or ()):
            stage["expected map@3"] = dataclasses.asdict(score)
        return {
            "questions": self.questions, "seconds": round(self.seconds, 1), "limit": self.limit,
            "starting": round(self.starting, 1), "stages": stages,
        }  # fmt: skip

    def text(self) -> str:
        """A line for each stage."""
        rows = [_HEAD, *map(self._row, self.schedule(), self._worth())]
        if not any(stage.gpu_peak for stage, _ in self.schedule()):
            rows = [(*row[:5], *row[6:]) for row in rows]
        if self.scores is None:
            rows = [row[:-2] for row in rows]
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = [f"{counted(self.questions, 'question')}, {duration(self.starting)} to start"]
        for row in rows:
            cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:])]
            lines.append("  ".join([f"{row[0]:<{widths[0]}}", *cells]).rstrip())
        return "\n".join([*lines, f"all: {duration(self.seconds)}", *self._notes(), "Nothing was written."])

    def _row(self, turn: Turn, worth: tuple[str, str]) -> tuple[str, ...]:
        stage, count = turn
        low, high = (duration(stage.seconds(count, pace)) for pace in (stage.fastest, stage.slowest))
        return (
            stage.name, f"{count:,}", duration(stage.seconds(count)), f"{low} to {high}",
            show_size(stage.ram_peak), show_size(stage.gpu_peak), *worth,
        )  # fmt: skip

    def _worth(self) -> list[tuple[str, str]]:
        """Of each stage, the expected MAP@3 after it, and what a minute of it gains."""
        turns = self.schedule()
        worth, before = [("", "")] * (len(turns) - len(self.scores or ())), None
        for (stage, count), score in zip(turns[len(worth) :], self.scores or ()):
            minutes = stage.seconds(count) / 60
            gain = "" if before is None else f"{(score.mean - before) / minutes:+.4f}"
            worth.append((str(score), gain))
            before = score.mean
        return worth

    def _notes(self) -> list[str]:
        notes = []
        if self.limit is not None:
            short = [turn for turn in self.schedule() if turn.questions < self.questions]
            notes.append(f"limits.time: {duration(self.limit)}" + ("" if short else "; everything fits"))
            notes += [
                f"  {stage.name}: only {count:,} of {counted(self.questions, 'question')}"
                + (", the least certain ones" if stage in self.asking[1:] else "")
                for stage, count in short
            ]
        if self.scores is None and len(self.asking) > 1:
            notes.append("expected MAP@3: unknown without out_of_fold (cross-validate --final writes it)")
        return notes


_HEAD = (
    "stage", "questions", "about", "between", "peak RAM", "peak GPU", "MAP@3 after it", "gain a minute"
)  # fmt: skip
