"""Settings that were given but have no effect in this run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inference.checks import active_rankers, uses_encoder
from kaggle_rag.config import ContextSettings, Solution

# Settings of a solution that a program does not read. In a solution.yaml they are for the other programs;
# typed for this one, they were meant to have an effect.
_UNREAD = {
    "contexts": ("contexts_file", "rankers", "blend", "stack", "out_of_fold", "top", "generate"),
    "ask": ("questions", "contexts_file", "out", "out_of_fold", "top", "limit", "generate"),
    "submit": ("generate",),
    "predict": ("index", "contexts", "encoders", "blend", "stack", "out_of_fold", "top", "generate"),
    "generate": (
        "index", "encoder", "encoders", "contexts", "rankers", "blend", "stack", "out_of_fold", "top"
    ),
}


def idle(
    solution: Solution, program: str, *, typed: Sequence[str] = (), without_contexts: bool = False
) -> Iterator[str]:
    """Describe each such setting in one line.

    Parameters
    ----------
    program : a key of `_UNREAD`.
    typed : the keys of ``--set``.
    without_contexts : the flag of ``submit`` and ``predict``.
    """
    for key in typed:
        if (top := key.split(".")[0]) in _UNREAD[program]:
            yield f"{key} has no effect: {program} does not read {top}"
    if program == "generate":
        return
    if program in ("contexts", "ask") or not (without_contexts or solution.contexts_file):
        yield from _idle_search(solution)
    else:
        yield from _idle_without(solution, "--without-contexts" if without_contexts else "contexts_file")
    if solution.limits.gpu and (solution.device or "").startswith("cpu"):
        yield "limits.gpu has no effect on the device cpu"
    if solution.out_of_fold and program == "submit" and len(active_rankers(solution)) == 1:
        yield "out_of_fold has no effect: the only ranker is asked everything in any order"
    if program == "predict":
        if solution.limits.time:
            yield "limits.time has no effect: predict answers every question, and a killed run resumes"
        return
    if program != "contexts":
        yield from _idle_mix(solution)
        yield from _idle_rankers(solution, sure=program == "ask")


def _idle_without(solution: Solution, why: str) -> Iterator[str]:
    """Settings that only a search would use."""
    given = solution.model_fields_set
    for key in ("index", "contexts"):
        if key in given and getattr(solution, key) is not None:
            yield f"{key} has no effect: nothing is searched with {why}"
    if solution.encoders:
        yield f"encoders has no effect: nothing is searched with {why}"
    if not uses_encoder(solution) and solution.encoder:
        yield "encoder has no effect: no ranker with nonzero weight uses it"


def _idle_search(solution: Solution) -> Iterator[str]:
    settings = solution.contexts
    given = settings.model_fields_set
    if "rerank" in given and not settings.reranker:
        yield "contexts.rerank has no effect without contexts.reranker"
    if "reranked" in given and not settings.reranker:
        yield "contexts.reranked has no effect without contexts.reranker"
    if settings.late and not settings.reranker:
        yield "contexts.late has no effect without contexts.reranker"
    if settings.exact is True and set(settings.retrievers) == {"bm25"}:
        yield "contexts.exact has no effect: bm25 has no vectors"
    if settings.nprobe and settings.exact is True:
        yield "contexts.nprobe has no effect with contexts.exact: every vector is searched"
    if len(settings.retrievers) == 1 and set(settings.retrievers.values()) != {1.0}:
        yield f"the weight of {next(iter(settings.retrievers))} has no effect: it is the only retriever"
    if unused := [name for name in solution.encoders if name not in settings.retrievers]:
        yield f"encoders.{unused[0]} has no effect: contexts.retrievers does not name it"
    if _has_one_query(settings):
        if "merge" in given:
            yield "contexts.merge has no effect: each context has a single query"
        if "fusion" in given and len(settings.retrievers) < 2:
            yield "contexts.fusion has no effect: there is one retriever and one query"


def _has_one_query(settings: ContextSettings) -> bool:
    """Whether a single query determines each context."""
    forms = settings.forms, settings.instruction_forms
    single = all(len(set(each)) == 1 for each in forms)
    return single and (settings.per == "option" or all(set(each) == {"all"} for each in forms))


def _idle_mix(solution: Solution) -> Iterator[str]:
    """Weights, blend and stack, one of which may override the others."""
    weighted = [each for each in solution.rankers if "weight" in each.model_fields_set]
    if solution.stack:
        if "blend" in solution.model_fields_set:
            yield "blend has no effect: the stack combines the rankers"
        if weighted:
            yield "rankers.*.weight has no effect: the stack combines the rankers"
        if any(each.temperature != 1 for each in solution.rankers):
            yield "rankers.*.temperature has no effect: the stack combines the rankers"
        if any(each.vector for each in solution.rankers):
            yield "rankers.*.vector has no effect: the stack combines the rankers"
        return
    if len(active_rankers(solution)) == 1 and "blend" in solution.model_fields_set:
        yield "blend has no effect: only one ranker has nonzero weight"
    for number, each in enumerate(solution.rankers):
        if not each.weight:
            yield f"rankers.{number} ({each.kind}) is not used: its weight is 0"


def _idle_rankers(solution: Solution, *, sure: bool) -> Iterator[str]:
    """``sure``: the probabilities themselves are shown."""
    by_rank = not sure and (len(active_rankers(solution)) == 1 or solution.blend == "ranks")
    for number, each in enumerate(solution.rankers):
        if solution.stack or not by_rank:
            continue
        if "temperature" in each.options:
            yield f"rankers.{number}.options.temperature has no effect: only the order of the options matters"
        if each.temperature != 1:
            yield f"rankers.{number}.temperature has no effect: only the order of the options matters"
