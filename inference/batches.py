"""Work on questions in batches, each outcome a file in a folder, so that a killed run resumes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

from kaggle_rag.data.contexts import QuestionContexts, read_contexts, write_contexts
from kaggle_rag.data.question_files import read_written, write_questions
from kaggle_rag.data.questions import Questions
from kaggle_rag.runtime.work_folder import WorkFolder


class Batches:
    """A folder with one file per finished batch, until all are joined.

    Parameters
    ----------
    work : the folder.
    count : all questions.
    size : questions per batch; the last one has fewer.
    """

    def __init__(self, work: WorkFolder, count: int, size: int) -> None:
        self.work, self.count, self.size = work, count, size

    @property
    def starts(self) -> range:
        """The first question of each batch, by which it is known."""
        return range(0, self.count, self.size)

    def rows(self, start: int) -> range:
        """The questions of a batch."""
        return range(start, min(start + self.size, self.count))

    def path(self, start: int) -> Path:
        """The file of a batch."""
        return batch_file(self.work.folder, start)

    def missing(self) -> list[int]:
        """The batches that are not finished."""
        # The folder is listed: what was once asked for in vain may, on NFS, stay away for a while.
        finished = {path.name for path in self.work.folder.glob("*.parquet")}
        return [start for start in self.starts if self.path(start).name not in finished]


class Asked(NamedTuple):
    """A batch: its first question's place, the questions, and their contexts if there are any."""

    start: int
    questions: Questions
    contexts: list[QuestionContexts] | None = None


def batch_file(folder: Path, start: int) -> Path:
    """Where the outcome of a batch is stored."""
    return folder / f"{start:07d}.parquet"


@dataclasses.dataclass(frozen=True)
class HandedOut:
    """Batches that are worked on elsewhere, as files in the folder that their outcomes go to."""

    folder: Path

    def write(self, asked: Asked) -> None:
        """Write what a batch asks."""
        if asked.contexts is not None:
            write_contexts(self._contexts(asked.start), asked.questions, asked.contexts, {})
        write_questions(self._questions(asked.start), asked.questions)

    def read(self, start: int) -> Asked:
        """What was written."""
        questions, path = read_written(self._questions(start)), self._contexts(start)
        return Asked(start, questions, read_contexts(path, questions) if path.exists() else None)

    def remove(self, start: int) -> None:
        """Drop it, when the batch is finished."""
        self._questions(start).unlink(missing_ok=True)
        self._contexts(start).unlink(missing_ok=True)

    def _questions(self, start: int) -> Path:
        return self.folder / f"{start:07d}.questions.parquet"

    def _contexts(self, start: int) -> Path:
        return self.folder / f"{start:07d}.contexts.parquet"
