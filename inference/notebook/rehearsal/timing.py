"""How long the hidden rerun will take: a line through the sizes that were rehearsed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from kaggle_rag.runtime.console import duration
from kaggle_rag.runtime.errors import show_size
from kaggle_rag.runtime.words import counted

# Imports and models come from slow storage, on a machine that has just been started.
SLOW_START = 7
# Bytes a second that an input is read at; a network disk, not a local one.
STORAGE = 100_000_000


@dataclasses.dataclass(frozen=True)
class Pace:
    """``start + each * questions`` seconds."""

    start: float
    each: float

    def seconds(self, questions: int) -> float:
        """For so many questions."""
        return self.start + self.each * questions


def pace(questions: Sequence[int], seconds: Sequence[float]) -> Pace | None:
    """The line of least squares with neither a negative start nor a negative pace; ``None`` for one size."""
    if len(set(questions)) < 2:
        return None
    slope, start = np.polyfit(np.asarray(questions, float), np.asarray(seconds, float), 1)
    if slope <= 0:
        return Pace(float(np.max(seconds)), 0.0)
    if start < 0:
        # The best line through the origin.
        size, time = np.asarray(questions, float), np.asarray(seconds, float)
        return Pace(0.0, float((size * time).sum() / (size * size).sum()))
    return Pace(float(start), float(slope))


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What the hidden rerun will take.

    Attributes
    ----------
    questions : that are expected.
    bytes : of the inputs, all read once.
    storage : bytes a second.
    limit : seconds that the competition allows.
    own_limit : seconds after which the notebook ends by itself; ``None`` if it does not.
    """

    pace: Pace
    questions: int
    bytes: int
    storage: float
    limit: float
    own_limit: float | None

    @property
    def seconds(self) -> float:
        """As fast as this machine."""
        return self.pace.seconds(self.questions)

    @property
    def reading(self) -> float:
        """Seconds to read the inputs from slow storage."""
        return self.bytes / self.storage

    @property
    def slow_seconds(self) -> float:
        """With a start that takes `SLOW_START` times as long, and inputs on slow storage."""
        return SLOW_START * self.pace.start + self.reading + self.pace.each * self.questions

    @property
    def overruns(self) -> bool:
        """Whether it takes longer than the competition allows, and does not end by itself before."""
        if self.own_limit is not None and self.own_limit + self.reading < self.limit:
            return False
        return self.slow_seconds > self.limit

    def as_json(self) -> dict[str, Any]:
        """It as plain JSON."""
        return {
            "questions": self.questions, "start": round(self.pace.start, 2), "each": self.pace.each,
            "seconds": round(self.seconds, 1), "slow_seconds": round(self.slow_seconds, 1),
            "limit": self.limit, "own_limit": self.own_limit, "overruns": self.overruns,
        }  # fmt: skip

    def text(self) -> str:
        """It as readable lines."""
        line = (
            f"{counted(self.questions, 'question')} would take {duration(self.seconds)} on a machine like "
            f"this one ({duration(self.pace.start)} to start, {_short(self.pace.each)} a question), and "
            f"{duration(self.slow_seconds)} with a start {SLOW_START} times as slow and "
            f"{show_size(self.bytes)} read at {show_size(self.storage)} a second; allowed: "
            f"{duration(self.limit)}"
        )
        if self.own_limit is not None and self.slow_seconds > self.own_limit:
            line += (
                f"\nnote: the notebook ends by itself after {duration(self.own_limit)} (--time): expensive "
                "rankers would answer only the least certain questions"
            )
        return line


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
