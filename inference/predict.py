"""The stages of answering, each measured, and refused at its start if it cannot fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from inference.cascade import Cascade, mixed
from inference.checks import active_rankers
from inference.predictions import PredictionStore, names_of
from inference.ranker_turn import RankerTurn, require_room
from inference.run_log import Clock, RunLog
from kaggle_rag.config import RankerSettings, Solution
from kaggle_rag.data.contexts import QuestionContexts
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.models.devices import device_of
from kaggle_rag.rankers.base import TellsNeed
from kaggle_rag.rankers.needs import require_limits
from kaggle_rag.rankers.registry import make_ranker, numbered, takes_index
from kaggle_rag.rankers.resources import Resources
from kaggle_rag.runtime.errors import CheckpointError
from kaggle_rag.runtime.faults import Gathered

# What a ranker without weights of its own counts for where the time is divided, in bytes of weights.
_LEAST_COST = 50_000_000


def make_rankers(solution: Solution, *, search: bool = True) -> None:
    """Make every ranker once without its model, so that a wrong setting is reported before any search.

    Raises
    ------
    KitError : every fault of the rankers, the device, and (if contexts are searched) the re-ranker.
    """
    faults = Gathered()
    with faults.check():
        device_of(solution.device)
    with faults.check():
        require_limits(solution, search=search, device=device_of(solution.device))
    if search and solution.contexts.reranker and not solution.contexts.late:
        with faults.check():
            _require_scores(solution.contexts.reranker)
    for number, settings in enumerate(solution.rankers):
        if settings not in active_rankers(solution):
            continue
        with faults.check(), numbered(number):
            ranker = make_ranker(settings.kind, settings.options, encoder=None, index=None)
            require_room(ranker, solution)
    faults.tell()


def _require_scores(reranker: str) -> None:
    from kaggle_rag.retrieval.crossencoder import has_head

    folder = resolve(reranker).path
    if not has_head(folder):
        raise CheckpointError(
            "this model has no trained head that scores a pair", where=folder,
            expected="a cross-encoder: a model saved with one score per pair",
            cure=f"compare its token vectors: contexts.late: true; or train a cross-encoder from it: "
            f"python -m training reranker --model {folder}",
        )  # fmt: skip


def cost(settings: RankerSettings) -> int:
    """What a ranker costs against others: the bytes of its weights; 0 for one without weights of its own."""
    unopened = make_ranker(settings.kind, settings.options, encoder=None, index=None)
    if not isinstance(unopened, TellsNeed):
        return 0
    need = unopened.need()
    return need.size or need.weights


class Turns(NamedTuple):
    """In which order rankers are asked, and what part of the time that is left each may take then.

    ``order`` are places among the active rankers; the last one's share is all.
    """

    order: list[int]
    shares: list[float]


def turns_of(rankers: Sequence[RankerSettings], cascade: Cascade) -> Turns:
    """What gains most for its cost comes first where that is known, else the cheapest.

    Without out-of-fold predictions, those that use the index come before all others, so that it can be
    closed. A ranker that gains nothing comes last and takes what time the others leave.
    """
    costs = [max(cost(each), _LEAST_COST) for each in rankers]
    if cascade.known is None:
        order = sorted(range(len(rankers)), key=lambda n: (not takes_index(rankers[n].kind), costs[n]))
        return Turns(order, shares([costs[n] for n in order]))
    order, gains = cascade.order(costs)
    return Turns(order, shares([costs[n] if gain > 0 else 1 for n, gain in zip(order, gains)]))


def shares(costs: Sequence[int]) -> list[float]:
    """Each cost's part of it and all behind it."""
    weighed = np.asarray(costs, dtype=np.float64)
    return [float(each) for each in weighed / np.cumsum(weighed[::-1])[::-1]]


def predict(
    resources: Resources,
    questions: Questions,
    contexts: Sequence[QuestionContexts | None] | None,
    *,
    log: RunLog | None = None,
    store: PredictionStore | None = None,
    after: Callable[[Probabilities], None] | None = None,
) -> Probabilities:
    """Ask the active rankers one at a time, each freeing its memory; then mix them.

    Parameters
    ----------
    log : runs the stages; by default a quiet one that raises the first error.
    store : keeps what each ranker has answered, and has what an earlier run kept.
    after : is given the mix so far after every ranker.
    """
    log = log or RunLog(Clock(None), strict=True, quiet=True)
    rankers = active_rankers(resources.solution)
    names = names_of([(each.kind, each.options) for each in rankers])
    tables = [np.full(questions.present.shape, np.nan, np.float32) for _ in rankers]
    cascade = Cascade.of(resources.solution)
    order, time_shares = turns_of(rankers, cascade)
    for turn, (number, share) in enumerate(zip(order, time_shares)):
        until = log.clock.after(share)
        gate = cascade.gate(order[:turn], number)
        its_turn = RankerTurn(names[number], rankers[number], questions, contexts, until, gate)
        answered = any(np.isfinite(table).all(axis=1).any() for table in tables)
        so_far = mixed(resources.solution, tables, questions.present) if answered else None
        with log.stage(f"rank: {names[number]}") as stage:
            its_turn.answer(resources, stage, tables[number], so_far, log.clock, store)
        if after:
            after(mixed(resources.solution, tables, questions.present))
    return mixed(resources.solution, tables, questions.present)


