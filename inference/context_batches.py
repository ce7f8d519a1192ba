"""Contexts in batches beside their file, so that a killed stage goes on where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_rag.data.contexts import read_contexts, write_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.runtime.console import progress
from kaggle_rag.runtime.files import write_json

if TYPE_CHECKING:
    from kaggle_rag.retrieval.retriever import Retriever

NOTES = "notes.json"


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
        self.folder = out.with_name(f".{out.name}.batches")
        if not self._mine():
            shutil.rmtree(self.folder, ignore_errors=True)
            write_json(self.folder / NOTES, {**self.notes, "batch": size})

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
        shutil.rmtree(self.folder)

    def _batch(self, start: int) -> Questions:
        return self.questions.take(range(start, min(start + self.size, len(self.questions))))

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:07d}.parquet"

    def _mine(self) -> bool:
        try:
            found = json.loads((self.folder / NOTES).read_text(encoding="utf-8"))
            return bool(found == {**self.notes, "batch": self.size})
        except (OSError, ValueError):
            return False
