"""Rankers over any number of questions: each one's predictions as a file, and no submission."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from inference.checks import Inputs, active_rankers
from inference.prediction_batches import PredictionBatches, write_answers
from inference.predictions import PredictionStore, names_of
from inference.ranker_turn import blended_as, is_read_once, made_by_of, unopened
from inference.run_log import RUN, Clock, RunLog, Stage
from inference.run_notes import key_of, mix_of, seen_of
from kaggle_rag.config import RankerSettings, Solution
from kaggle_rag.rankers.base import Note, summed
from kaggle_rag.rankers.registry import make_ranker, numbered
from kaggle_rag.rankers.resources import Resources
from kaggle_rag.runtime.cluster import Cluster
from kaggle_rag.runtime.console import Bar, overall
from kaggle_rag.runtime.faults import Gathered
from kaggle_rag.runtime.words import counted

if TYPE_CHECKING:
    from kaggle_rag.runtime.crew import Crew

# Questions asked at once; more by a ranker that reads its weights anew every time.
_BATCH, _READ_ONCE_BATCH = 512, 16_384


def check_rankers_open(solution: Solution, cluster: Cluster | None) -> None:
    """Make every ranker once without its model; what it needs is up to the machines that it will run on."""
    if cluster is None:
        from inference.predict import make_rankers

        make_rankers(solution, search=False)
        return
    faults = Gathered()
    for number, settings in enumerate(solution.rankers):
        if settings in active_rankers(solution):
            with faults.check(), numbered(number):
                make_ranker(settings.kind, settings.options, encoder=None, index=None)
    faults.tell()


def predictions_to_folder(
    solution: Solution, inputs: Inputs, *, without_contexts: bool = False, cluster: Cluster | None = None
) -> None:
    """Ask every active ranker all questions; write ``RANKER.parquet`` of each into ``solution.out``.

    Batches are stored in the folder until all of a ranker are there, so a killed run can resume, with a
    cluster or without. Of the contexts, only those of some batches are in memory.

    Raises
    ------
    KitError : the folder holds predictions of something else; whatever a ranker raises.
    """
    solution = _anywhere(solution) if cluster else solution
    check_rankers_open(solution, cluster)
    # The contexts are ready: the rows of their file may be of another index.
    solution = solution.model_copy(update={"index": None})
    if without_contexts:
        solution = solution.model_copy(update={"contexts_file": None})
    seen = seen_of(solution, inputs.questions, search=False)
    assert solution.out
    key = key_of(solution, without_contexts)
    store = PredictionStore(solution.out, inputs.questions, key, keep=True)
    rankers = active_rankers(solution)
    names = names_of([(each.kind, each.options) for each in rankers])
    log = RunLog(Clock(None), strict=True)
    notes = {"mix": mix_of(solution), "seen": seen.as_json()}
    with _crew(cluster) as crew, store.work.claimed() as folder:
        log.write(folder / RUN, **notes)
        for name, settings in zip(names, rankers):
            with log.stage(f"rank: {name}") as stage:
                stage.questions = len(inputs.questions)
                _Answering(solution, settings, name, store, crew).run(stage)
        log.write(folder / RUN, **notes)


def _anywhere(solution: Solution) -> Solution:
    """Rankers without devices of their own: an actor has its share, and this machine may have none."""
    rankers = tuple(
        each.model_copy(update={"options": {k: v for k, v in each.options.items() if k != "device"}})
        for each in solution.rankers
    )
    return solution.model_copy(update={"rankers": rankers})


def _crew(cluster: Cluster | None) -> contextlib.AbstractContextManager[Crew | None]:
    if cluster is None:
        return contextlib.nullcontext()
    from inference.ray_batches import joined

    return joined(cluster)


class _Answering:
    """One ranker's answers to all questions, by this process or by a crew."""

    def __init__(
        self, solution: Solution, settings: RankerSettings, name: str, store: PredictionStore,
        crew: Crew | None,
    ) -> None:  # fmt: skip
        self.solution, self.settings, self.name, self.store, self.crew = solution, settings, name, store, crew

    def run(self, stage: Stage) -> None:
        """Answer what is missing, and write the ranker's file."""
        count, made_by = len(self.store.questions), made_by_of(self.settings, self.solution, ())
        blended, table = blended_as(self.settings, self.solution), self.store.load(self.name, made_by)
        if np.isfinite(table).all():
            self.store.blend_as(self.name, table, made_by, blended)
            self.store.keep_it()
            stage.note = f"{self.name}: all {counted(count, 'answer was', 'answers were')} there already"
            return
        unread = make_ranker(self.settings.kind, self.settings.options, encoder=None, index=None)
        size = _READ_ONCE_BATCH if is_read_once(unread) else _BATCH
        batches = PredictionBatches(self.store, self.name, made_by, self.solution.contexts_file, size)
        with batches.work.claimed():
            missing, told = batches.missing(), list[Note]()
            done = count - sum(len(batches.rows(start)) for start in missing)
            with overall(count, f"rank: {self.name}", "question", initial=done) as bar:
                for start, notes in self._answers(batches, missing, bar):
                    bar.update(len(batches.rows(start)))
                    self.store.keep_it()
                    told += notes
            for note in summed(told):
                print(f"note: {note}", file=sys.stderr)
            self.store.save(self.name, batches.table(), made_by, blended)
            shutil.rmtree(batches.work.folder)

    def _answers(
        self, batches: PredictionBatches, missing: list[int], bar: Bar
    ) -> Iterator[tuple[int, list[Note]]]:
        """Batches that are on disk now, and the ranker's notes on them."""
        if not missing:
            return
        if self.crew:
            from inference.ray_batches import answers

            yield from answers(self.crew, self.solution, self.settings, batches, missing, bar)
            return
        with unopened(self.settings, Resources.open(self.solution)) as ranker:
            for asked in batches.asked(missing):
                table = ranker.probabilities(asked.questions, asked.contexts)
                write_answers(batches.path(asked.start), self.name, asked.questions, table)
                yield asked.start, list(ranker.notes)
