"""Batches of questions on a Ray cluster: actors that hold a retriever or a ranker, each on one batch.

An actor reads what a batch asks from the folder that its outcome goes to, which every node sees; through Ray
goes the batch's number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from inference.batches import Asked, HandedOut, batch_file
from inference.context_batches import ContextBatches
from inference.prediction_batches import PredictionBatches, write_answers
from inference.ranker_turn import unopened
from kaggle_rag.config import RankerSettings, Solution, absolute
from kaggle_rag.data.contexts import write_contexts
from kaggle_rag.rankers.base import Note
from kaggle_rag.rankers.resources import Resources
from kaggle_rag.runtime.cluster import Cluster
from kaggle_rag.runtime.console import Bar
from kaggle_rag.runtime.crew import Crew, Job, Share, Task, Tasks
from kaggle_rag.runtime.crew import joined as joined_by


def joined(cluster: Cluster) -> AbstractContextManager[Crew]:
    """The actors of a cluster; without GPUs, of as many threads as this process has."""
    return joined_by(cluster, torch.get_num_threads())


@dataclasses.dataclass(frozen=True)
class ContextJob:
    """Find the contexts of batches of ``size`` questions, some of them by one search."""

    solution: Solution
    folder: Path
    size: int

    def open(self, share: Share) -> Callable[..., None]:
        """Open the index and its encoders."""
        retriever = Resources.open(_of_actor(self.solution, share)).retriever()
        handed = HandedOut(self.folder)

        def find(*starts: int) -> None:
            questions = handed.read(starts[0]).questions
            contexts = retriever(questions)
            for number, start in enumerate(starts):
                # Only the last batch of all has fewer.
                rows = range(number * self.size, min((number + 1) * self.size, len(questions)))
                own = contexts[rows.start : rows.stop]
                write_contexts(batch_file(self.folder, start), questions.take(rows), own, {})

        return find


@dataclasses.dataclass(frozen=True)
class AnswerJob:
    """Ask a ranker batches."""

    solution: Solution
    settings: RankerSettings
    name: str
    folder: Path

    def open(self, share: Share) -> Callable[[int], list[Note]]:
        """Load the ranker, which stays; what is returned gives the ranker's notes on a batch."""
        resources, handed = Resources.open(_of_actor(self.solution, share)), HandedOut(self.folder)
        ranker = unopened(self.settings, resources).__enter__()

        def answer(start: int) -> list[Note]:
            asked = handed.read(start)
            table = ranker.probabilities(asked.questions, asked.contexts)
            write_answers(batch_file(self.folder, start), self.name, asked.questions, table)
            return list(ranker.notes)

        return answer


def _of_actor(solution: Solution, share: Share) -> Solution:
    """The settings on an actor, which computes with what its share is."""
    torch.set_num_threads(share.cpus)
    return solution.model_copy(update={"device": share.device})


def find_contexts(crew: Crew, solution: Solution, batches: ContextBatches) -> None:
    """Find the contexts of all missing batches."""
    missing, folder = batches.missing(), batches.work.folder.absolute()
    groups = [tuple(missing[n : n + batches.passes]) for n in range(0, len(missing), batches.passes)]

    def asked() -> Iterator[tuple[Task, Asked]]:
        for starts in groups:
            rows = [row for start in starts for row in batches.rows(start)]
            yield starts, Asked(starts[0], batches.questions.take(rows))

    job = ContextJob(absolute(solution), folder, batches.size)
    with batches.bar(missing) as bar:
        for starts, _ in _spread(crew, job, folder, asked(), len(groups), bar):
            bar.update(sum(len(batches.rows(start)) for start in starts))


def answers(
    crew: Crew, solution: Solution, settings: RankerSettings, batches: PredictionBatches,
    missing: list[int], bar: Bar,
) -> Iterator[tuple[int, list[Note]]]:  # fmt: skip
    """Answer the missing batches; yield each, and the ranker's notes on it, once it is on disk."""
    folder, settled = batches.work.folder.absolute(), absolute(solution)
    place = solution.rankers.index(settings)
    job = AnswerJob(settled, settled.rankers[place], batches.name, folder)
    asked = (((batch.start,), batch) for batch in batches.asked(missing))
    for (start,), told in _spread(crew, job, folder, asked, len(missing), bar):
        yield start, told


def _spread(
    crew: Crew, job: Job, folder: Path, asked: Iterable[tuple[Task, Asked]], count: int, bar: Bar
) -> Iterator[tuple[Task, Any]]:
    """Hand out tasks, and what each asks, as actors become free; yield each task with its result."""
    handed = HandedOut(folder)

    def tasks() -> Iterator[Task]:
        for task, batch in asked:
            handed.write(batch)
            yield task

    for task, result in crew.finished(job, Tasks(tasks(), count, "batch"), folder, bar):
        handed.remove(task[0])
        yield task, result
