"""The stages of an answer, each measured, each refused at its start when it cannot fit."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from inference.checks import asked_rankers, fitting_stack
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

# Weights of a ranker before which the index is closed: opening it again costs a second.
_LARGE = 200_000_000


def make_rankers(solution: Solution, *, search: bool = True) -> None:
    """Make every ranker once without its model, so that a wrong setting is told before any search.

    Raises
    ------
    KitError : all that is wrong with them, the device, and the re-ranker where contexts are searched.
    """
    found = Gathered()
    with found.check():
        device_of(solution.device)
    with found.check():
        require_limits(solution, search=search, device=device_of(solution.device))
    if search and solution.contexts.reranker:
        with found.check():
            _require_scores(solution.contexts.reranker)
    for number, settings in enumerate(solution.rankers):
        if settings not in asked_rankers(solution):
            continue
        with found.check(), numbered(number):
            made = make_ranker(settings.kind, settings.options, encoder=None, index=None)
            if solution.limits != LimitSettings():
                require_room(made, solution)
    found.tell()


def _require_scores(reranker: str) -> None:
    from kaggle_rag.retrieval.crossencoder import has_head

    folder = resolve(reranker).path
    if not has_head(folder):
        raise CheckpointError(
            "this model has no trained head that scores a pair", where=folder,
            expected="a cross-encoder: a model saved with one score a pair",
            cure=f"train one from it: python -m training reranker --model {folder}",
        )  # fmt: skip


def predict(
    resources: Resources,
    questions: Questions,
    contexts: Sequence[QuestionContexts] | None,
    *,
    quiet: bool = False,
) -> Probabilities:
    """Every ranker with a say in turn, each given its memory back, then the blend or the stack of them."""
    asked = asked_rankers(resources.solution)
    found: dict[int, Probabilities] = {}
    # Those that use the index come first, so that it can be closed before the others.
    for place in sorted(range(len(asked)), key=lambda place: not takes_index(asked[place].kind)):
        settings = asked[place]
        if takes_index(settings.kind):
            resources.open_again()
        with stage(f"rank: {settings.kind}", quiet):
            made = make_ranker(
                settings.kind, settings.options, encoder=resources.encoder, index=resources.index
            )
            if require_room(made, resources.solution) > _LARGE:
                resources.close()
            with made as ranker:
                found[place] = ranker.probabilities(questions, contexts)
        for note in ranker.notes:
            print(f"note: {note}", file=sys.stderr)
    return mixed(resources.solution, [found[place] for place in range(len(asked))], questions.present)


def mixed(
    solution: Solution, tables: Sequence[Probabilities], present: npt.NDArray[np.bool_]
) -> Probabilities:
    """The blend or the stack of the tables of `asked_rankers`; ``present`` ``(n, k)``: options that exist."""
    if solution.stack:
        return fitting_stack(solution).mixed(tables, present)
    weights = [each.weight for each in asked_rankers(solution)]
    return blend(tables, weights, present, solution.blend)


def require_room(made: Ranker, solution: Solution) -> int:
    """Refuse a ranker that the limits do not leave room for; give the bytes of its weights."""
    if not isinstance(made, TellsNeed):
        return 0
    need = made.need()
    require(need, ram=solution.limits.ram, gpu=solution.limits.gpu)
    return need.weights
