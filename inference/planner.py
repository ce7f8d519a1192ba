"""What a submission will take, measured on a few questions of mixed length before it is begun."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from inference.cascade import Cascade
from inference.checks import Inputs, active_rankers
from inference.predict import turns_of
from inference.predictions import names_of
from inference.ranker_turn import is_read_once, require_room, workspace
from inference.run_log import Clock
from inference.submission_plan import StagePlan, SubmissionPlan
from kaggle_rag.config import RankerSettings, Solution
from kaggle_rag.data.contexts import QuestionContexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.rankers.registry import make_ranker
from kaggle_rag.rankers.resources import Resources
from kaggle_rag.runtime.limits import Usage, measured

# Groups of questions that are timed one after the other, each larger than the last, since a large batch
# takes less time per question; and the seconds of a stage after which no further group is timed.
_SIZES, _LONG = (16, 32, 64, 128), 15.0


def plan(
    solution: Solution, inputs: Inputs, *, without_contexts: bool = False, expected: int | None = None
) -> SubmissionPlan:
    """Measure every stage on a few questions, from short to long; nothing is written.

    Parameters
    ----------
    expected : questions of the hidden test set (default: those of the file).
    """
    search = inputs.contexts is None and not without_contexts
    resources = Resources.open(solution if search else solution.model_copy(update={"index": None}))
    starting = Clock(None).elapsed()
    trial = _Trial(inputs.questions, inputs.contexts, expected or len(inputs.questions))
    searching = trial.search(resources) if search else None
    rankers = active_rankers(solution)
    names = names_of([(each.kind, each.options) for each in rankers])
    cascade = Cascade.of(solution)
    order, shares = turns_of(rankers, cascade)
    asking = [trial.rank(names[number], rankers[number], resources) for number in order]
    whole = SubmissionPlan(
        expected or len(inputs.questions), starting, searching, tuple(asking),
        tuple(shares), solution.limits.time,
    )  # fmt: skip
    asked = [each.questions / whole.questions for each in whole.schedule() if each.stage in asking]
    return dataclasses.replace(whole, scores=cascade.expected(order, asked))


class _Trial:
    """A few questions of all lengths, in groups, and their contexts; ``expected`` questions are forecast."""

    def __init__(
        self, questions: Questions, contexts: Sequence[QuestionContexts] | None, expected: int
    ) -> None:
        self.expected = expected
        groups = [*_groups(questions)]
        self.groups = [questions.take(group) for group in groups]
        self.contexts: list[Sequence[QuestionContexts] | None] = [
            None if contexts is None else [contexts[row] for row in group] for group in groups
        ]

    def search(self, resources: Resources) -> StagePlan:
        """Time the search; rankers then read what it finds."""
        with measured("contexts") as usage:
            start = time.perf_counter()
            retriever = resources.retriever()
            opening = time.perf_counter() - start

            def find(number: int) -> None:
                self.contexts[number] = retriever(self.groups[number])

            paces = self._paces(find)
        # Rankers are timed on what was searched.
        self.groups, self.contexts = self.groups[: len(paces)], self.contexts[: len(paces)]
        return _stage("contexts", opening, paces, usage)

    def rank(self, name: str, settings: RankerSettings, resources: Resources) -> StagePlan:
        """Time a ranker."""
        with measured(name) as usage:
            unopened = make_ranker(
                settings.kind, settings.options, encoder=resources.encoder, index=resources.index,
                workspace=workspace(resources.solution),
            )  # fmt: skip
            require_room(unopened, resources.solution)
            start = time.perf_counter()
            with unopened as ranker:
                opening = time.perf_counter() - start

                def ask(number: int) -> None:
                    ranker.probabilities(self.groups[number], self.contexts[number])

                if is_read_once(ranker):
                    # A group costs about as much as all: one shows the pace.
                    ask(0)
                    paces = [ranker.forecast(self.expected) / self.expected]
                else:
                    paces = self._paces(ask)
        return _stage(f"rank: {name}", opening, paces, usage)

    def _paces(self, work: Callable[[int], Any]) -> list[float]:
        """Seconds per question of each group, until that took long enough."""
        began, paces = time.perf_counter(), []
        for number, group in enumerate(self.groups):
            start = time.perf_counter()
            work(number)
            paces.append((time.perf_counter() - start) / len(group))
            if time.perf_counter() - began > _LONG:
                break
        return paces


def _groups(questions: Questions) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
    """Rows of groups of growing size, each evenly over all lengths; no question is in two."""
    lengths = [len(q.prompt) + sum(len(option or "") for option in q.options) for q in questions]
    left = np.argsort(lengths, kind="stable")
    for size in _SIZES:
        if not len(left):
            return
        places = np.unique(np.linspace(0, len(left) - 1, min(size, len(left))).astype(np.int64))
        yield left[places]
        left = np.delete(left, places)


def _stage(name: str, opening: float, paces: Sequence[float], usage: Usage) -> StagePlan:
    # The first group warms up: it only counts where there is no other.
    warm = paces[1:] or paces
    return StagePlan(name, opening, warm[-1], min(warm), max(warm), usage.ram_peak, usage.gpu_peak)
