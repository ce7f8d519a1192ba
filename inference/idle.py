"""Settings that were given and change nothing in this run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inference.checks import asked_rankers, uses_encoder
from kaggle_rag.config import ContextSettings, Solution

# Settings of a solution that a program does not read. In a solution.yaml they are there for the other
# programs; typed for this one they were meant to do something.
_UNREAD = {
    "contexts": ("contexts_file", "rankers", "blend", "stack", "top"),
    "ask": ("questions", "contexts_file", "out", "top", "limit"),
    "submit": (),
}


def idle(
    solution: Solution, program: str, *, typed: Sequence[str] = (), without_contexts: bool = False
) -> Iterator[str]:
    """A line for each.

    Parameters
    ----------
    program : ``contexts``, ``submit`` or ``ask``.
    typed : the keys of ``--set``.
    without_contexts : of ``submit``.
    """
    for key in typed:
        if (top := key.split(".")[0]) in _UNREAD[program]:
            yield f"{key} has no effect: {program} does not read {top}"
    search = program != "submit" or not (without_contexts or solution.contexts_file)
    if search:
        yield from _idle_search(solution)
    else:
        yield from _idle_without(solution, "--without-contexts" if without_contexts else "contexts_file")
    if solution.limits.gpu and (solution.device or "").startswith("cpu"):
        yield "limits.gpu has no effect on the device cpu"
    if program != "contexts":
        yield from _idle_mix(solution)
        yield from _idle_rankers(solution, sure=program == "ask")


def _idle_without(solution: Solution, why: str) -> Iterator[str]:
    """What a search would have asked."""
    given = solution.model_fields_set
    for key in ("index", "contexts"):
        if key in given and getattr(solution, key) is not None:
            yield f"{key} has no effect: with {why} nothing is searched"
    if solution.encoders:
        yield f"encoders has no effect: with {why} nothing is searched"
    if not uses_encoder(solution) and solution.encoder:
        yield "encoder has no effect: no ranker with nonzero weight asks it"


def _idle_search(solution: Solution) -> Iterator[str]:
    settings = solution.contexts
    given = settings.model_fields_set
    if "rerank" in given and not settings.reranker:
        yield "contexts.rerank has no effect without contexts.reranker"
    if settings.exact is True and set(settings.retrievers) == {"bm25"}:
        yield "contexts.exact has no effect: bm25 has no vectors"
    if len(settings.retrievers) == 1 and set(settings.retrievers.values()) != {1.0}:
        yield f"the weight of {next(iter(settings.retrievers))} has no effect: it is the sole retriever"
    if unasked := [name for name in solution.encoders if name not in settings.retrievers]:
        yield f"encoders.{unasked[0]} has no effect: contexts.retrievers does not ask it"
    if _asks_once(settings):
        if "merge" in given:
            yield "contexts.merge has no effect: each context is asked for by one query"
        if "fusion" in given and len(settings.retrievers) < 2:
            yield "contexts.fusion has no effect: one retriever is asked by one query"


def _asks_once(settings: ContextSettings) -> bool:
    """Whether one query alone decides about a context."""
    forms = settings.forms, settings.instruction_forms
    single = all(len(set(asked)) == 1 for asked in forms)
    return single and (settings.per == "option" or all(set(asked) == {"all"} for asked in forms))


def _idle_mix(solution: Solution) -> Iterator[str]:
    """Weights, blend and stack, of which one may overrule the others."""
    weighed = [each for each in solution.rankers if "weight" in each.model_fields_set]
    if solution.stack:
        if "blend" in solution.model_fields_set:
            yield "blend has no effect: the stack mixes the rankers"
        if weighed:
            yield "rankers.*.weight has no effect: the stack mixes the rankers"
        return
    if len(asked_rankers(solution)) == 1 and "blend" in solution.model_fields_set:
        yield "blend has no effect: only one ranker has nonzero weight"
    for number, each in enumerate(solution.rankers):
        if not each.weight:
            yield f"rankers.{number} ({each.kind}) is not asked: its weight is 0"


def _idle_rankers(solution: Solution, *, sure: bool) -> Iterator[str]:
    """``sure``: how sure the answer is, is shown beside it."""
    by_rank = not sure and (len(asked_rankers(solution)) == 1 or solution.blend == "ranks")
    for number, each in enumerate(solution.rankers):
        if "temperature" in each.options and by_rank and not solution.stack:
            yield f"rankers.{number}.options.temperature has no effect: the order of the options alone counts"
