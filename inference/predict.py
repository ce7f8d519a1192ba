"""The stages of answering, each measured, and refused at its start if it cannot fit."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from inference.checks import active_rankers, fitting_stack
from kaggle_rag.config import LimitSettings, Solution
from kaggle_rag.data.contexts import QuestionContexts
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.ensembling.blending import blend
from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.models.devices import device_of
from kaggle_rag.rankers.base import Ranker, TellsNeed
from kaggle_rag.rankers.needs import require_limits
from kaggle_rag.rankers.registry import make_ranker, numbered, takes_index
from kaggle_rag.rankers.resources import Resources
from kaggle_rag.runtime.errors import CheckpointError
from kaggle_rag.runtime.faults import Gathered
from kaggle_rag.runtime.limits import require, stage

# Bytes of a ranker's weights above which the index is closed first: reopening it takes a second.
_LARGE = 200_000_000


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
    if search and solution.contexts.reranker:
        with faults.check():
            _require_scores(solution.contexts.reranker)
    for number, settings in enumerate(solution.rankers):
        if settings not in active_rankers(solution):
            continue
        with faults.check(), numbered(number):
            ranker = make_ranker(settings.kind, settings.options, encoder=None, index=None)
            if solution.limits != LimitSettings():
                require_room(ranker, solution)
    faults.tell()


def _require_scores(reranker: str) -> None:
    from kaggle_rag.retrieval.crossencoder import has_head

    folder = resolve(reranker).path
    if not has_head(folder):
        raise CheckpointError(
            "this model has no trained head that scores a pair", where=folder,
            expected="a cross-encoder: a model saved with one score per pair",
            cure=f"train one from it: python -m training reranker --model {folder}",
        )  # fmt: skip


def predict(
    resources: Resources,
    questions: Questions,
    contexts: Sequence[QuestionContexts] | None,
    *,
    quiet: bool = False,
) -> Probabilities:
    """Run the active rankers one at a time, freeing the memory of each, then blend or stack them."""
    rankers = active_rankers(resources.solution)
    tables: dict[int, Probabilities] = {}
    # Those that use the index come first, so that it can be closed before the others.
    for position in sorted(range(len(rankers)), key=lambda n: not takes_index(rankers[n].kind)):
        settings = rankers[position]
        if takes_index(settings.kind):
            resources.open_again()
        with stage(f"rank: {settings.kind}", quiet):
            unopened = make_ranker(
                settings.kind, settings.options, encoder=resources.encoder, index=resources.index
            )
            if require_room(unopened, resources.solution) > _LARGE:
                resources.close()
            with unopened as ranker:
                tables[position] = ranker.probabilities(questions, contexts)
        for note in ranker.notes:
            print(f"note: {note}", file=sys.stderr)
    return mixed(resources.solution, [tables[n] for n in range(len(rankers))], questions.present)


def mixed(
    solution: Solution, tables: Sequence[Probabilities], present: npt.NDArray[np.bool_]
) -> Probabilities:
    """The blend or the stack of the tables of `active_rankers`; ``present`` ``(n, k)``: existing options."""
    if solution.stack:
        return fitting_stack(solution).mixed(tables, present)
    weights = [each.weight for each in active_rankers(solution)]
    return blend(tables, weights, present, solution.blend)


def require_room(ranker: Ranker, solution: Solution) -> int:
    """Refuse a ranker that does not fit within the limits; return the bytes of its weights."""
    if not isinstance(ranker, TellsNeed):
        return 0
    need = ranker.need()
    require(need, ram=solution.limits.ram, gpu=solution.limits.gpu)
    return need.weights
