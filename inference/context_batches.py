"""Contexts in batches next to their file, so that a killed stage resumes where it stopped."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.batches import Batches
from kaggle_rag.data.context_files import join_contexts
from kaggle_rag.data.contexts import QuestionContexts, read_contexts, write_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.runtime.console import Bar, progress
from kaggle_rag.runtime.work_folder import WorkFolder

if TYPE_CHECKING:
    from kaggle_rag.retrieval.retriever import Retriever

NOTES = "notes.json"


class _BatchFolder(WorkFolder):
    """Batches of other inputs cost only minutes and would never be joined, so they are deleted."""

    def worth_keeping(self) -> bool:
        return False


class ContextBatches(Batches):
    """The folder ``.NAME.batches`` next to a contexts file: one small contexts file per batch.

    Parameters
    ----------
    out : the contexts file to write.
    questions : all of them.
    notes : what determines the contexts; batches with other notes are deleted.
    size : questions per batch, as the retriever prefers.
    """

    def __init__(self, out: Path, questions: Questions, notes: Mapping[str, Any], size: int) -> None:
        self.out, self.questions, self.notes = out, questions, dict(notes)
        work = _BatchFolder(
            out.with_name(f".{out.name}.batches"), {**self.notes, "batch": size}, "contexts stage",
            file=NOTES, cure="wait until it ends",
        )  # fmt: skip
        super().__init__(work, len(questions), size)

    def fill(self, retriever: Retriever, going_on: Callable[[float], bool] = lambda _: True) -> bool:
        """Find the contexts of every missing batch while ``going_on`` says so; whether all are there.

        ``going_on`` is given the seconds that the batch before took, 0 at first.
        """
        took, missing = 0.0, self.missing()
        with self.bar(missing) as bar:
            for start in missing:
                if not going_on(took):
                    return False
                began, batch = time.perf_counter(), self.batch(start)
                write_contexts(self.path(start), batch, retriever(batch), {})
                took = time.perf_counter() - began
                bar.update(len(batch))
        return True

    def bar(self, missing: Sequence[int]) -> Bar:
        """Progress over the questions, of which only those of the missing batches are to be done."""
        done = self.count - sum(len(self.rows(start)) for start in missing)
        return progress(self.count, "contexts", "question", initial=done)

    def so_far(self) -> list[QuestionContexts | None]:
        """The contexts that were found; ``None`` for the other questions."""
        contexts: list[QuestionContexts | None] = []
        for start in self.starts:
            batch, path = self.batch(start), self.path(start)
            contexts += read_contexts(path, batch) if path.exists() else [None] * len(batch)
        return contexts

    def join(self) -> None:
        """Join all batches into the one file, then delete the folder."""
        parts = ((self.rows(start), self.path(start)) for start in self.starts)
        join_contexts(self.out, self.questions, parts, self.notes)
        shutil.rmtree(self.work.folder)

    def batch(self, start: int) -> Questions:
        """The questions of a batch."""
        return self.questions.take(self.rows(start))
