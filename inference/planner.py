"""What a submission will take, measured on a few questions of mixed length before it is begun."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from inference.checks import Inputs, active_rankers
from inference.predict import cost
from inference.predictions import names_of
from inference.ranker_turn import is_read_once, require_room, workspace
from kaggle_rag.config import RankerSettings, Solution
from kaggle_rag.data.contexts import QuestionContexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.rankers.registry import make_ranker, takes_index
from kaggle_rag.rankers.resources import Resources
from kaggle_rag.runtime.console import duration
from kaggle_rag.runtime.errors import show_size
from kaggle_rag.runtime.limits import Usage, measured

# Groups of questions that are timed one after the other, how many each has, and the seconds after which no
# further group is timed.
_GROUPS, _SIZE, _LONG = 3, 24, 30.0


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """One stage: seconds to open it, and per question (mean, least, most of the groups); peaks in bytes."""

    name: str
    opening: float
    pace: float
    fastest: float
    slowest: float
    ram_peak: int
    gpu_peak: int

    def seconds(self, questions: int, pace: float) -> float:
        """For so many questions at a pace."""
        return self.opening + questions * pace


@dataclasses.dataclass(frozen=True)
class SubmissionPlan:
    """The stages of a submission of ``questions`` questions, in their order; ``limit`` in seconds."""

    questions: int
    stages: tuple[StagePlan, ...]
    limit: float | None

    @property
    def seconds(self) -> float:
        return sum(stage.seconds(self.questions, stage.pace) for stage in self.stages)

    def as_json(self) -> dict[str, Any]:
        return {
            "questions": self.questions, "seconds": round(self.seconds, 1), "limit": self.limit,
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
        }  # fmt: skip

    def text(self) -> str:
        wide = max(5, *(len(stage.name) for stage in self.stages))
        gpu = any(stage.gpu_peak for stage in self.stages)
        lines = [
            f"{self.questions:,} questions",
            f"{'stage':<{wide}}  {'about':>10}  {'between':>22}  peak RAM{'  peak GPU' if gpu else ''}",
        ]
        for stage in self.stages:
            about, low, high = (
                duration(stage.seconds(self.questions, pace))
                for pace in (stage.pace, stage.fastest, stage.slowest)
            )
            cells = f"{about:>10}  {low:>10}, {high:>10}  {show_size(stage.ram_peak):>8}"
            cells += f"  {show_size(stage.gpu_peak):>8}" if gpu else ""
            lines.append(f"{stage.name:<{wide}}  {cells}")
        lines.append(f"{'all':<{wide}}  {duration(self.seconds):>10}")
        if self.limit is not None:
            lines.append(self._within(self.limit))
        return "\n".join([*lines, "Nothing was written."])

    def _within(self, limit: float) -> str:
        if self.seconds <= limit:
            return f"fits within limits.time, {duration(limit)}"
        over = duration(self.seconds - limit)
        return (
            f"more than limits.time, {duration(limit)}, by {over}: the most expensive rankers answer only "
            "the questions that the blend is least certain of"
        )


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
    trial = _Trial(inputs.questions, inputs.contexts, expected or len(inputs.questions))
    stages = [trial.search(resources)] if search else []
    rankers = active_rankers(solution)
    names = names_of([(each.kind, each.options) for each in rankers])
    costs = [(not takes_index(each.kind), cost(each)) for each in rankers]
    for number in sorted(range(len(rankers)), key=lambda n: costs[n]):
        stages.append(trial.rank(names[number], rankers[number], resources))
    return SubmissionPlan(expected or len(inputs.questions), tuple(stages), solution.limits.time)


class _Trial:
    """A few questions of all lengths, in groups that are alike, and their contexts.

    ``expected`` questions are forecast.
    """

    def __init__(
        self, questions: Questions, contexts: Sequence[QuestionContexts] | None, expected: int
    ) -> None:
        self.expected = expected
        lengths = [len(q.prompt) + sum(len(option or "") for option in q.options) for q in questions]
        order = np.argsort(lengths, kind="stable")
        chosen = order[np.unique(np.linspace(0, len(order) - 1, _GROUPS * _SIZE).astype(np.int64))]
        rows = [chosen[start::_GROUPS] for start in range(_GROUPS) if len(chosen) > start]
        self.groups = [questions.take(group) for group in rows]
        self.contexts: list[Sequence[QuestionContexts] | None] = [
            None if contexts is None else [contexts[row] for row in group] for group in rows
        ]

    def search(self, resources: Resources) -> StagePlan:
        """Time the search; rankers then read what it finds."""
        with measured("contexts") as usage:
            start = time.perf_counter()
            retriever = resources.retriever()
            opening, paces = time.perf_counter() - start, []
            for number, group in enumerate(self.groups):
                start = time.perf_counter()
                self.contexts[number] = retriever(group)
                paces.append((time.perf_counter() - start) / len(group))
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
                opening, paces = time.perf_counter() - start, []
                for group, contexts in zip(self.groups, self.contexts):
                    start = time.perf_counter()
                    ranker.probabilities(group, contexts)
                    if is_read_once(ranker):
                        # A group costs about as much as all: one shows the pace.
                        paces.append(ranker.forecast(self.expected) / self.expected)
                        break
                    paces.append((time.perf_counter() - start) / len(group))
                    if time.perf_counter() - start > _LONG:
                        break
        return _stage(f"rank: {name}", opening, paces, usage)


def _stage(name: str, opening: float, paces: Sequence[float], usage: Usage) -> StagePlan:
    # The first group warms up: it only counts where there is no other.
    warm = paces[1:] or paces
    return StagePlan(
        name, opening, float(np.mean(warm)), min(warm), max(warm), usage.ram_peak, usage.gpu_peak
    )  # fmt: skip
