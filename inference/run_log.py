"""The stages of a run: what each took, which failed, and how much of the time is left."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from kaggle_rag.runtime.console import duration
from kaggle_rag.runtime.errors import show_size
from kaggle_rag.runtime.files import write_json
from kaggle_rag.runtime.limits import measured

# The file of a run's folder that tells of its stages.
RUN = "run.json"
# The last stage stops this part of the time before its end: a submission still has to be written.
SPARE = 0.03


@dataclasses.dataclass
class Stage:
    """One stage: the questions it answered, what it used at its peak, and why it ended early.

    ``failure`` is the error that ended it; ``note`` says what a limit left out.
    """

    name: str
    questions: int = 0
    seconds: float = 0.0
    ram_peak: int = 0
    gpu_peak: int = 0
    failure: str = ""
    note: str = ""


class Clock:
    """The time of a run, counted from the start of its process.

    Parameters
    ----------
    limit : seconds that the run may take; ``None``: as long as it needs.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self.begin = float(psutil.Process().create_time())

    def elapsed(self) -> float:
        """Seconds since the process was started."""
        return time.time() - self.begin

    def left(self) -> float:
        """Seconds that stages may still take; infinite without a limit."""
        if self.limit is None:
            return float("inf")
        return self.limit * (1 - SPARE) - self.elapsed()

    def after(self, share: float) -> float:
        """What is left when a share of the time has passed."""
        return 0.0 if self.limit is None else self.left() * (1 - share)


class RunLog:
    """Runs stages one after the other; a stage that fails is recorded, and the next ones go on.

    Parameters
    ----------
    strict : raise the error of a stage instead.
    """

    def __init__(self, clock: Clock, *, strict: bool = False, quiet: bool = False) -> None:
        self.clock, self.strict, self.quiet = clock, strict, quiet
        self.stages: list[Stage] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Measure a stage. What it raises is kept in its ``failure``."""
        stage = Stage(name)
        self.stages.append(stage)
        try:
            with measured(name) as usage:
                yield stage
        except Exception as error:
            if self.strict:
                raise
            stage.failure = f"{type(error).__name__}: {error}"
        stage.seconds, stage.ram_peak, stage.gpu_peak = usage.seconds, usage.ram_peak, usage.gpu_peak
        if self.quiet:
            return
        print(usage, file=sys.stderr)
        for line in filter(None, [stage.note, stage.failure and self._failed(stage)]):
            print(line, file=sys.stderr)

    def _failed(self, stage: Stage) -> str:
        return (
            f"FAILED: {stage.name} ({stage.failure}). The submission holds what the other stages answered; "
            "--strict stops at the first failure."
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "seconds": round(self.clock.elapsed(), 1), "limit": self.clock.limit,
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
        }  # fmt: skip

    def text(self) -> str:
        """A table of the stages."""
        wide = max(5, *(len(stage.name) for stage in self.stages))
        gpu = any(stage.gpu_peak for stage in self.stages)
        lines = [f"{'stage':<{wide}}  questions      time  peak RAM{'  peak GPU' if gpu else ''}"]
        for stage in self.stages:
            cells = f"{stage.questions:>9,}  {duration(stage.seconds):>8}  {show_size(stage.ram_peak):>8}"
            cells += f"  {show_size(stage.gpu_peak):>8}" if gpu else ""
            lines.append(f"{stage.name:<{wide}}  {cells}{'  FAILED' if stage.failure else ''}")
        return "\n".join(lines)

    def write(self, path: Path, **more: Any) -> None:
        """The same as JSON, and ``more`` about the run."""
        write_json(path, {**self.as_json(), **more})
