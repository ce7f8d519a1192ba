"""From what a run left to Kaggle's error class, a cause and a cure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from inference.notebook.rehearsal.judge import NAME, judge
from inference.notebook.rehearsal.sandbox import Outcome
from inference.notebook.rehearsal.signs import LESS_MEMORY, READ_ONLY, read_signs
from inference.notebook.rehearsal.verdict import ErrorClass, Fault
from kaggle_rag.runtime.console import duration
from kaggle_rag.runtime.errors import show_size

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
FASTER = "set limits.time (--time), so that expensive rankers answer the least certain questions alone"
# Share of the memory at which a process that died was probably killed for it.
_NEARLY = 0.9
# Characters of what was printed last, in which a cause is looked for.
_TAIL = 6000


def fault_of(outcome: Outcome, ids: Sequence[str], letters: str, top: int) -> Fault | None:
    """Why Kaggle would not score this run; ``None`` if it would.

    Parameters
    ----------
    ids, letters, top : of the hidden questions, as `judge` takes them.
    """
    if outcome.watched.ended:
        return _ENDED[outcome.watched.ended](outcome)
    if outcome.changed:
        cause = f"the notebook writes to its input: {outcome.changed}"
        return Fault(ErrorClass.EXCEPTION, cause, READ_ONLY)
    if outcome.error:
        return _of_error(outcome)
    path = outcome.working / NAME
    return judge(path, ids, letters, top) if path.is_file() else _not_found(outcome.working)


def warnings(outcome: Outcome) -> list[str]:
    """Lines that a run printed of stages that failed, and which it survived."""
    lines = [line.strip() for line in _COLOURS.sub("", outcome.printed).splitlines()]
    return [line for line in lines if line.startswith(("FAILED: ", "PARTIAL: "))]


def _of_error(outcome: Outcome) -> Fault:
    printed = _COLOURS.sub("", outcome.printed)[-_TAIL:]
    if outcome.error == "DeadKernelError" and outcome.watched.ram > outcome.caps.ram * _NEARLY:
        return _ended_by_memory(outcome)
    # What was raised tells more than what was printed before, some of which may be of no consequence.
    if known := read_signs(f"{outcome.error}: {outcome.message}") or read_signs(printed):
        return known
    # The message of a program of the kit says more than its exit code.
    programs = re.findall(r"^error: (.*)", printed, re.MULTILINE)
    lines = (outcome.message or outcome.error).strip().splitlines()
    reason = (programs or lines)[-1][:200]
    cure = "see the notebook that was run: --keep FOLDER keeps it"
    return Fault(ErrorClass.EXCEPTION, f"{outcome.error}: {reason}", cure)


def _not_found(working: Path) -> Fault:
    others = sorted(path.name for path in working.glob("*.csv"))
    wrote = f"; it wrote {', '.join(others)[:80]}" if others else ""
    return Fault(
        ErrorClass.NOT_FOUND, f"the notebook ended without /kaggle/working/{NAME}{wrote}",
        f"write the predictions to {NAME} in the working folder, as the last step",
    )  # fmt: skip


def _ended_by_time(outcome: Outcome) -> Fault:
    return Fault(ErrorClass.TIMEOUT, f"still running after {duration(outcome.caps.seconds)}", FASTER)


def _ended_by_memory(outcome: Outcome) -> Fault:
    cause = f"it wants more than {show_size(outcome.caps.ram)} of memory"
    return Fault(ErrorClass.COMPUTE, cause, LESS_MEMORY)


def _ended_by_tmp(outcome: Outcome) -> Fault:
    cause = f"it writes more than {show_size(outcome.caps.tmp)} to /tmp"
    return Fault(ErrorClass.COMPUTE, cause, "remove what is no longer needed, or write it to /kaggle/working")


def _ended_by_working(outcome: Outcome) -> Fault:
    cause = f"it writes more than {show_size(outcome.caps.working)} to /kaggle/working"
    return Fault(ErrorClass.COMPUTE, cause, "remove what is no longer needed")


_ENDED: dict[str, Callable[[Outcome], Fault]] = {
    "seconds": _ended_by_time, "ram": _ended_by_memory, "tmp": _ended_by_tmp, "working": _ended_by_working,
}  # fmt: skip
