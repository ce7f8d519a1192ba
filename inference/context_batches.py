"""Contexts in batches next to their file, so that a killed stage resumes where it stopped."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from inference.batches import Batches
from kaggle_rag.data.context_files import join_contexts
from kaggle_rag.data.contexts import QuestionContexts, read_contexts, write_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.runtime.console import Bar, progress
from kaggle_rag.runtime.work_folder import WorkFolder

NOTES = "notes.json"
Find = Callable[[Questions], Iterable[QuestionContexts]]


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
    size : questions per batch.
    together : questions that are searched together; their batches are stored one by one.
    """

    def __init__(
        self, out: Path, questions: Questions, notes: Mapping[str, Any], size: int, together: int = 1
    ) -> None:
        self.out, self.questions, self.notes = out, questions, dict(notes)
        self.passes = max(together // size, 1)
        work = _BatchFolder(
            out.with_name(f".{out.name}.batches"), {**self.notes, "batch": size}, "contexts stage",
            file=NOTES, cure="wait until it ends",
        )  # fmt: skip
        super().__init__(work, len(questions), size)

    def fill(
        self,
        find: Find,
        going_on: Callable[[float], bool] = lambda _: True,
        faults: list[Exception] | None = None,
    ) -> bool:
        """Find the contexts of every missing batch while ``going_on`` says so; whether all are there.

        Parameters
        ----------
        find : the contexts of questions, in order, and best one by one: `Retriever.stream`.
        going_on : is given the seconds that such a batch took before, 0 at first.
        faults : collects what batches raised, and the others go on, until two in a row have; ``None``: the
            first fault is raised.
        """
        waiting, went_well = self.missing(), True
        # The first batch of those that are searched together waits for the search of all.
        took = {True: 0.0, False: 0.0}
        with self.bar(waiting) as bar:
            while waiting:
                together = waiting[: self.passes]
                found = self._searched(find, together)
                for start in together:
                    is_first = start == together[0]
                    if not going_on(took[is_first]):
                        return False
                    began, before = time.perf_counter(), went_well
                    went_well = self._store(start, found, faults)
                    if not (went_well or before):
                        return False
                    if not went_well:
                        # The search ended with it.
                        break
                    took[is_first] = time.perf_counter() - began
                    bar.update(len(self.rows(start)))
                waiting = [each for each in waiting if each > start]
        return not faults

    def _store(
        self, start: int, found: Iterator[list[QuestionContexts]], faults: list[Exception] | None
    ) -> bool:
        """Write the contexts found next as those of this batch; whether there were any to write."""
        try:
            write_contexts(self.path(start), self.batch(start), next(found), {})
        except Exception as fault:
            if faults is None:
                raise
            faults.append(fault)
            return False
        return True

    def _searched(self, find: Find, starts: Sequence[int]) -> Iterator[list[QuestionContexts]]:
        """The contexts of batches that are searched together, batch by batch."""
        rows = [row for start in starts for row in self.rows(start)]
        found = iter(find(self.questions.take(rows)))
        for start in starts:
            yield list(itertools.islice(found, len(self.rows(start))))

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
