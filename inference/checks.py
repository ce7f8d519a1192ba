"""All that can be known of a run before it begins, told at once."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kaggle_rag.config import RankerSettings, Solution
from kaggle_rag.data.contexts import QuestionContexts, read_contexts
from kaggle_rag.data.questions import Questions, id_text
from kaggle_rag.data.submission import is_submission, read_ids
from kaggle_rag.ensembling.stacking import Stack
from kaggle_rag.index.manifest import MANIFEST
from kaggle_rag.rankers.checks import check_models, check_ranker
from kaggle_rag.rankers.needs import require_limits
from kaggle_rag.runtime.errors import ConfigError, InputError, KitError
from kaggle_rag.runtime.faults import Gathered


def given(solution: Solution, *keys: str) -> None:
    """Raise ``ConfigError`` unless every key is set."""
    if missing := [key for key in keys if getattr(solution, key) is None]:
        raise ConfigError(
            "not given: " + ", ".join(missing),
            expected=", ".join(f"--{key}" for key in missing) + " or the same keys in solution.yaml",
        )


def check_out(solution: Solution, endings: set[str], inputs: Sequence[Path] = ()) -> None:
    """Refuse, before any work, an ``out`` that is an input, has another ending, or cannot be written."""
    out = solution.out
    assert out is not None
    if out.suffix.lower() not in endings:
        raise ConfigError(
            f"the ending of {out.name!r} is not that of what is written",
            where="--out",
            expected=" or ".join(sorted(endings)),
        )
    for path in (solution.questions, solution.contexts_file, *inputs):
        if path and path.exists() and out.exists() and out.samefile(path):
            raise ConfigError("this would overwrite an input", where=out, cure="choose another --out")
    index = solution.index
    if index and (index / MANIFEST).exists() and out.resolve().is_relative_to(index.resolve()):
        raise ConfigError("this lies inside the index", where=out, cure="choose another --out")
    if out.exists() and not out.is_file():
        raise ConfigError("this is no file that could be written", where=out, cure="choose another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        # The system would name the file that was tried.
        error.filename = str(out.parent)
        raise InputError(
            f"nothing can be written here ({error.strerror})", where=out.parent, cure="choose another --out"
        ) from error


class Inputs(NamedTuple):
    """What a run reads, once.

    Attributes
    ----------
    questions : those of the file, or the first ``limit`` of them.
    left_out : questions that a limit leaves out.
    contexts : those of a contexts file; ``None`` without one.
    """

    questions: Questions
    left_out: int = 0
    contexts: list[QuestionContexts] | None = None


def check_contexts(solution: Solution, faults: Sequence[KitError] = ()) -> Inputs:
    """Raise all faults of a run of ``contexts``; what was read to find them comes back."""
    found = Gathered()
    found.faults += faults
    with found.check():
        given(solution, "questions", "index", "out")
    if solution.out:
        with found.check():
            check_out(solution, {".parquet"})
    inputs = None
    if solution.questions:
        with found.check():
            inputs = _limited(Questions.read(solution.questions), solution.limit)
    check_models(found, solution, search=True, encodes=True)
    _check_ram(found, solution, search=True)
    found.tell()
    assert inputs
    return inputs


def check_submit(
    solution: Solution, *, without_contexts: bool, sample: Path | None, faults: Sequence[KitError] = ()
) -> Inputs:
    """Raise all faults of a run of ``submit``; what was read to find them comes back."""
    found = Gathered()
    found.faults += faults
    with found.check():
        given(solution, "questions", "out")
    with found.check():
        _check_source(solution, without_contexts)
    if solution.out:
        with found.check():
            check_out(solution, {".csv"}, [sample] if sample else [])
            _refuse_other_file(solution.out)
    inputs = None
    if solution.questions:
        with found.check():
            questions = Questions.read(solution.questions)
            inputs = _limited(questions, solution.limit)
    if inputs and sample is not None:
        with found.check():
            _same_ids(questions, sample)
    if inputs and solution.contexts_file and not without_contexts:
        with found.check():
            inputs = inputs._replace(contexts=read_contexts(solution.contexts_file, inputs.questions))
    search = not without_contexts and solution.contexts_file is None
    check_models(found, solution, search=search, encodes=search or uses_encoder(solution))
    _check_ram(found, solution, search=search)
    check_rankers(found, solution)
    found.tell()
    assert inputs
    return inputs


def _limited(questions: Questions, limit: int | None) -> Inputs:
    left_out = len(questions) - min(limit or len(questions), len(questions))
    return Inputs(questions.take(range(len(questions) - left_out)) if left_out else questions, left_out)


def check_ask(solution: Solution, faults: Sequence[KitError] = ()) -> None:
    """Raise all faults of a run of ``ask``, but for the question itself."""
    found = Gathered()
    found.faults += faults
    with found.check():
        given(solution, "index")
    check_models(found, solution, search=True, encodes=True)
    _check_ram(found, solution, search=True)
    check_rankers(found, solution)
    found.tell()


def _check_ram(found: Gathered, solution: Solution, *, search: bool) -> None:
    """What a GPU would hold instead is known when torch has looked for one."""
    if solution.limits.ram is not None and not (solution.device or "cpu").startswith("cuda"):
        with found.check():
            require_limits(solution, search=search, device="cpu")


def check_rankers(found: Gathered, solution: Solution) -> None:
    """Rankers with a say, and the stack that mixes them."""
    for number, settings in enumerate(solution.rankers):
        if settings.weight or solution.stack:
            with found.check():
                check_ranker(settings.kind, settings.options, f"rankers.{number}")
    if solution.stack:
        with found.check():
            fitting_stack(solution)


def fitting_stack(solution: Solution) -> Stack:
    """The stack of these rankers; raise ``ConfigError`` where it mixes others."""
    assert solution.stack
    stack = Stack.load(solution.stack)
    if len(stack.rankers) != len(solution.rankers):
        raise ConfigError(
            f"this stack mixes {len(stack.rankers)} rankers, the settings name {len(solution.rankers)}",
            where=solution.stack,
            expected="the rankers that were cross-validated, in their order: " + ", ".join(stack.rankers),
        )
    return stack


def uses_encoder(solution: Solution) -> bool:
    """Whether a ranker with a say asks the encoder."""
    return any(each.kind != "trained" for each in asked_rankers(solution))


def asked_rankers(solution: Solution) -> list[RankerSettings]:
    """The rankers with a say: a stack asks all of them."""
    return [each for each in solution.rankers if each.weight or solution.stack]


def _check_source(solution: Solution, without_contexts: bool) -> None:
    if not without_contexts and solution.contexts_file is None and solution.index is None:
        raise ConfigError(
            "nothing to answer from", expected="--index, --contexts-file, or --without-contexts"
        )


def _refuse_other_file(out: Path) -> None:
    if out.exists() and not is_submission(out):
        raise InputError(
            "a file that is no submission is there already", where=out, cure="choose another --out"
        )


def _same_ids(questions: Questions, sample: Path) -> None:
    theirs, ours = set(read_ids(sample)), {id_text(key) for key in questions.ids}
    if theirs != ours:
        raise InputError(
            f"{len(ours - theirs)} questions are not in the sample submission, "
            f"{len(theirs - ours)} of its ids are not in the questions",
            where=sample,
            expected="the same ids",
            cure="give the questions file of this competition",
        )
