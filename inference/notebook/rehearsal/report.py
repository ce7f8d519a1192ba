"""What a rehearsal found: case by case, with cause and cure, and what was enforced."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.notebook.rehearsal.cases import Case
from inference.notebook.rehearsal.timing import Forecast
from inference.notebook.rehearsal.verdict import Fault
from inference.notebook.rehearsal.watch import Watched
from kaggle_rag.runtime.console import duration
from kaggle_rag.runtime.errors import show_size


@dataclasses.dataclass(frozen=True)
class CaseResult:
    """One run; ``watched`` is ``None`` where it was not run because the sizes before tell how it ends."""

    case: Case
    questions: int
    watched: Watched | None
    fault: Fault | None
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """It as plain JSON."""
        return {
            "case": self.case.name, "questions": self.questions, "layout": self.case.layout,
            "passed": self.fault is None, "fault": self.fault and self.fault.as_json(),
            "took": self.watched and dataclasses.asdict(self.watched), "warnings": list(self.warnings),
        }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RehearsalReport:
    """A rehearsal, done or planned.

    Attributes
    ----------
    static : faults that were found without running.
    results : of the cases that were run; empty with ``--dry-run``.
    planned : the cases and their numbers of questions.
    enforced : how each limit is.
    environment : what the notebook ran in.
    forecast : how long the real rerun will take; ``None`` if only one size was run.
    overrun : its fault, if it takes too long.
    kept : the folder with the runs' files; ``None`` if they were removed.
    """

    id: str
    environment: str
    static: tuple[Fault, ...]
    planned: tuple[tuple[Case, int], ...]
    results: tuple[CaseResult, ...]
    enforced: Mapping[str, str]
    notes: tuple[str, ...]
    forecast: Forecast | None = None
    overrun: Fault | None = None
    kept: Path | None = None

    @property
    def faults(self) -> list[Fault]:
        """All of them, each once."""
        of_runs = [result.fault for result in self.results if result.fault]
        overrun = [self.overrun] if self.overrun else []
        return list(dict.fromkeys([*self.static, *of_runs, *overrun]))

    @property
    def passed(self) -> bool:
        """Whether there is no fault."""
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        """It as plain JSON."""
        return {
            "id": self.id, "passed": self.passed, "environment": self.environment,
            "static": [fault.as_json() for fault in self.static],
            "planned": [{"case": case.name, "questions": count} for case, count in self.planned],
            "cases": [result.as_json() for result in self.results],
            "enforced": dict(self.enforced), "notes": list(self.notes),
            "forecast": self.forecast and self.forecast.as_json(),
            "overrun": self.overrun and self.overrun.as_json(),
            "kept": self.kept and str(self.kept),
        }  # fmt: skip

    def text(self) -> str:
        """It as readable text."""
        lines = self._table() if self.results else self._plan()
        lines += [fault.text() for fault in self.faults]
        lines += [f"warning: {line}" for result in self.results for line in result.warnings]
        lines += [self.forecast.text()] if self.forecast else []
        lines += [f"note: {note}" for note in self.notes]
        lines += ["enforced:", *(f"  {what}: {how}" for what, how in self.enforced.items())]
        lines.append(f"environment: {self.environment}")
        lines += [f"kept: {self.kept}"] if self.kept else []
        return "\n".join([*lines, self._verdict()])

    def _table(self) -> list[str]:
        lines = [
            f"{'case':<6}{'questions':>10}  {'layout':<8}{'time':>12}{'peak RAM':>11}{'/tmp':>10}  verdict"
        ]
        for result in self.results:
            cells = f"{'not run':>12}{'':>11}{'':>10}"
            if took := result.watched:
                peaks = f"{show_size(took.ram):>11}{show_size(took.tmp):>10}"
                cells = f"{duration(took.seconds):>12}{peaks}"
            verdict = result.fault.error.value if result.fault else "passed"
            case = result.case
            lines.append(f"{case.name:<6}{result.questions:>10,}  {case.layout:<8}{cells}  {verdict}")
        return lines

    def _plan(self) -> list[str]:
        return [
            f"{case.name:<6}{count:>10,} questions, inputs {case.layout}: {case.purpose}"
            for case, count in self.planned
        ]

    def _verdict(self) -> str:
        if not self.results:
            return "nothing was run (--dry-run)"
        cases = f"{len(self.results)} case{'s' * (len(self.results) != 1)}"
        if self.passed:
            return f"{self.id}: passed in {cases}"
        errors = dict.fromkeys(fault.error.value for fault in self.faults)
        return f"{self.id}: would fail on Kaggle ({', '.join(errors)})"
