"""What a rerun can die of, in Kaggle's words, and what the kit found of it."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple


class ErrorClass(str, enum.Enum):
    """The errors of a code competition (https://www.kaggle.com/code-competition-debugging, 2026-11)."""

    CANNOT_SUBMIT = "Cannot submit"
    """The upload or the submission is refused: nothing runs."""
    TIMEOUT = "Notebook Timeout"
    """The notebook ran longer than the competition allows."""
    EXCEPTION = "Notebook Threw Exception"
    """A cell raised an error that nothing caught."""
    COMPUTE = "Notebook Exceeded Allowed Compute"
    """More memory or disk than there is, or inputs larger than allowed."""
    NOT_FOUND = "Submission CSV Not Found"
    """The notebook ended, and there is no submission.csv."""
    SCORING = "Submission Scoring Error"
    """Wrong rows or columns, empty or invalid values."""
    FORMAT = "Submission Format Error"
    """The file is no table with the columns of a submission."""


class Fault(NamedTuple):
    """Why a notebook would fail on Kaggle.

    Attributes
    ----------
    error : the class under which Kaggle shows it.
    cause : what is wrong.
    cure : what to do about it.
    where : the file, cell or row; empty if it is the whole run.
    """

    error: ErrorClass
    cause: str
    cure: str
    where: str = ""

    def as_json(self) -> dict[str, Any]:
        """It as plain JSON."""
        return {"error": self.error.value, "cause": self.cause, "cure": self.cure, "where": self.where}

    def text(self) -> str:
        """It as readable lines."""
        where = f"{self.where}: " if self.where else ""
        return f"{self.error.value}: {where}{self.cause}\n  do this:  {self.cure}"


class Findings:
    """What several checks found: faults, and notes on what is no fault."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.notes: list[str] = []

    def fault(self, error: ErrorClass, cause: str, cure: str, where: str = "") -> None:
        """Add a fault, unless the same is known."""
        found = Fault(error, cause, cure, where)
        if found not in self.faults:
            self.faults.append(found)

    def note(self, text: str) -> None:
        """Add a note, unless the same is known."""
        if text not in self.notes:
            self.notes.append(text)
