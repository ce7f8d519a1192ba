"""Contexts in batches beside their file, so that a killed stage goes on where it was."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_rag.data.contexts import read_contexts, write_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.runtime.console import progress
from kaggle_rag.runtime.work_folder import WorkFolder

if TYPE_CHECKING:
    from kaggle_rag.retrieval.retriever import Retriever

NOTES = "notes.json"


class _BatchFolder(WorkFolder):
    """Batches of other inputs took minutes, and would never be joined: they are cleared away."""

    def worth_keeping(self) -> bool:
        return False


class ContextBatches:
    """The folder ``.NAME.batches`` beside a contexts file: one small contexts file a batch.

    Parameters
    ----------
    out : the contexts file to be made.
    questions : all of them.
    notes : what decides the contexts; batches made for other notes are thrown away.
    size : questions of a batch, as the retriever likes them.
    """

    def __init__(self, out: Path, questions: Questions, notes: Mapping[str, Any], size: int) -> None:
        self.out, self.questions, self.notes, self.size = out, questions, dict(notes), size
        self.work = _BatchFolder(
            out.with_name(f".{out.name}.batches"), {**self.notes, "batch": size}, "contexts stage",
            file=NOTES, cure="wait until it ends",
        )  # fmt: skip

    def fill(self, retriever: Retriever) -> None:
        """Find the contexts of every batch that is not there."""
        with progress(len(self.questions), "contexts", "question") as bar:
            for start in range(0, len(self.questions), self.size):
                batch = self._batch(start)
                if not self._path(start).exists():
                    write_contexts(self._path(start), batch, retriever(batch), {})
                bar.update(len(batch))

    def join(self) -> None:
        """All batches as the one file; then the folder goes."""
        found = []
        for start in range(0, len(self.questions), self.size):
            found += read_contexts(self._path(start), self._batch(start))
        write_contexts(self.out, self.questions, found, self.notes)
        shutil.rmtree(self.work.folder)

    def _batch(self, start: int) -> Questions:
        return self.questions.take(range(start, min(start + self.size, len(self.questions))))

    def _path(self, start: int) -> Path:
        return self.work.folder / f"{start:07d}.parquet"
