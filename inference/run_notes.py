"""What is stored with a run's predictions: what its rankers read, how they are mixed, what they had seen."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from inference.checks import active_rankers
from inference.predictions import names_of
from kaggle_rag.config import Solution
from kaggle_rag.data.questions import Questions
from kaggle_rag.index.manifest import MANIFEST
from kaggle_rag.models.checkpoints import resolve, weights_sum
from kaggle_rag.rankers.seen import Seen, models_of, seen_by
from kaggle_rag.runtime.errors import KitError
from kaggle_rag.runtime.files import sha256


def key_of(solution: Solution, without_contexts: bool) -> dict[str, Any]:
    """What all rankers read, as plain JSON."""
    assert solution.questions
    key: dict[str, Any] = {"questions": sha256(solution.questions), "limit": solution.limit}
    if without_contexts:
        return {**key, "contexts": None}
    if solution.contexts_file:
        return {**key, "contexts": sha256(solution.contexts_file)}
    assert solution.index
    settings = solution.contexts.model_dump(mode="json")
    return {**key, "contexts": settings, "index": sha256(solution.index / MANIFEST), **reranker_of(solution)}


def reranker_of(solution: Solution) -> dict[str, str]:
    """The checksum of the re-ranker's weights, which its name stands for, if there is one."""
    name = solution.contexts.reranker
    return {"reranker": weights_sum(resolve(name).path)} if name else {}


def mix_of(solution: Solution) -> dict[str, Any]:
    """How the rankers are mixed, in the order in which a stack reads them."""
    rankers: list[tuple[str, Mapping[str, Any]]]
    rankers = [(each.kind, each.options) for each in active_rankers(solution)]
    stack = str(solution.stack.absolute()) if solution.stack else None
    return {"rule": solution.blend, "stack": stack, "rankers": names_of(rankers), "top": solution.top}


def seen_of(solution: Solution, questions: Questions, *, search: bool) -> Seen:
    """What the models have seen of the questions, told to the user; no fault of it stops an answer."""
    try:
        seen = seen_by(models_of(solution, active_rankers(solution), search=search), questions)
    except KitError as error:
        print(f"note: {error}", file=sys.stderr)
        return Seen({}, (), len(questions))
    for note in seen.notes():
        print(f"note: {note}", file=sys.stderr)
    return seen
