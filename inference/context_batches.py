"""Contexts in batches next to their file, so that a killed stage resumes where it stopped."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_rag.data.contexts import QuestionContexts, read_contexts, write_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.runtime.console import progress
from kaggle_rag.runtime.work_folder import WorkFolder

if TYPE_CHECKING:
    from kaggle_rag.retrieval.retriever import Retriever

NOTES = "notes.json"


class _BatchFolder(WorkFolder):
    """Batches of other inputs cost only minutes and would never be joined, so they are deleted."""

    def worth_keeping(self) -> bool:
        return False


class ContextBatches:
    """The folder ``.NAME.batches`` next to a contexts file: one small contexts file per batch.

    Parameters
    ----------
    out : the contexts file to write.
    questions : all of them.
    notes : what determines the contexts; batches with other notes are deleted.
    size : questions per batch, as the retriever prefers.
    """

    def __init__(self, out: Path, questions: Questions, notes: Mapping[str, Any], size: int) -> None:
        self.out, self.questions, self.notes, self.size = out, questions, dict(notes), size
        self.work = _BatchFolder(
            out.with_name(f".{out.name}.batches"), {**self.notes, "batch": size}, "contexts stage",
            file=NOTES, cure="wait until it ends",
        )  # fmt: skip

    def fill(self, retriever: Retriever, going_on: Callable[[float], bool] = lambda _: True) -> bool:
        """Find the contexts of every missing batch while ``going_on`` says so; whether all are there.

        ``going_on`` is given the seconds that the batch before took, 0 at first.
        """
        took = 0.0
        with progress(len(self.questions), "contexts", "question") as bar:
            for start in range(0, len(self.questions), self.size):
                batch = self._batch(start)
                if not self._path(start).exists():
                    if not going_on(took):
                        return False
                    began = time.perf_counter()
                    write_contexts(self._path(start), batch, retriever(batch), {})
                    took = time.perf_counter() - began
                bar.update(len(batch))
        return True

    def so_far(self) -> list[QuestionContexts | None]:
        """The contexts that were found; ``None`` for the other questions."""
        contexts: list[QuestionContexts | None] = []
        for start in range(0, len(self.questions), self.size):
            batch, path = self._batch(start), self._path(start)
            contexts += read_contexts(path, batch) if path.exists() else [None] * len(batch)
        return contexts

    def join(self) -> None:
        """Join all batches into the one file, then delete the folder."""
        contexts = []
        for start in range(0, len(self.questions), self.size):
            contexts += read_contexts(self._path(start), self._batch(start))
        write_contexts(self.out, self.questions, contexts, self.notes)
        shutil.rmtree(self.work.folder)

    def _batch(self, start: int) -> Questions:
        return self.questions.take(range(start, min(start + self.size, len(self.questions))))

    def _path(self, start: int) -> Path:
        return self.work.folder / f"{start:07d}.parquet"
