"""Check everything that can be checked before a run, and report all faults at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from inference.outputs import check_out, check_out_folder, refuse_other_file
from inference.predictions import names_of
from kaggle_rag.config import RankerSettings, Solution
from kaggle_rag.data.contexts import QuestionContexts, read_contexts, require_context_columns
from kaggle_rag.data.open_questions import OpenQuestions
from kaggle_rag.data.questions import Questions, id_text
from kaggle_rag.data.repair import read_repaired
from kaggle_rag.data.submission import read_ids
from kaggle_rag.data.tables import column_names
from kaggle_rag.ensembling.cascade import OutOfFold
from kaggle_rag.ensembling.stacking import Stack
from kaggle_rag.rankers.checks import check_models, check_ranker
from kaggle_rag.rankers.needs import require_limits
from kaggle_rag.rankers.registry import takes_index
from kaggle_rag.runtime.errors import ConfigError, InputError, KitError
from kaggle_rag.runtime.faults import Gathered
from kaggle_rag.runtime.files import require_space
from kaggle_rag.runtime.limits import Need, require
from kaggle_rag.runtime.settings import at_fault
from kaggle_rag.runtime.words import counted

# Bytes on disk: of a token of a context, with the evidence it came from; of a ranker's answer to a question
# of 26 options.
_BYTES_A_TOKEN, _BYTES_A_PREDICTION = 30, 26 * 4


def given(solution: Solution, *keys: str, faults: Sequence[KitError] = ()) -> None:
    """Raise ``ConfigError`` unless every key is set, or is a fault already."""
    if missing := [key for key in keys if getattr(solution, key) is None and not at_fault(faults, key)]:
        raise ConfigError(
            "not given: " + ", ".join(missing),
            expected=", ".join(f"--{key}" for key in missing) + " or the same keys in solution.yaml",
        )


class Inputs(NamedTuple):
    """The files of a run, read once.

    Attributes
    ----------
    questions : all of the file, or the first ``limit`` of them.
    left_out : number of questions that a limit leaves out.
    contexts : from the contexts file; ``None`` without one.
    bad_rows : faults of rows that were repaired.
    """

    questions: Questions
    left_out: int = 0
    contexts: list[QuestionContexts] | None = None
    bad_rows: tuple[InputError, ...] = ()


def check_contexts(
    solution: Solution, faults: Sequence[KitError] = (), *, is_open: bool = False
) -> Inputs:
    """Raise all faults of a run of ``contexts``; return what was read to find them.

    With ``is_open``, the questions are of any layout that `OpenQuestions` reads, without options.
    """
    gathered = Gathered()
    gathered.faults += faults
    with gathered.check():
        given(solution, "questions", "index", "out", faults=faults)
    if solution.out:
        with gathered.check():
            check_out(solution, {".parquet"})
    inputs = None
    if solution.questions:
        with gathered.check():
            path = solution.questions
            questions = OpenQuestions.read(path).questions if is_open else Questions.read(path)
            inputs = _limited(questions, solution.limit)
            if not questions.width:
                _require_a_query(solution)
    check_models(gathered, solution, search=True, encodes=True)
    _check_ram(gathered, solution, search=True)
    gathered.tell()
    assert inputs
    return inputs


def _require_a_query(solution: Solution) -> None:
    """Raise ``ConfigError`` where questions without options would have no query, or no context."""
    settings = solution.contexts
    if settings.per == "option":
        raise ConfigError(
            "these questions have no options", where="contexts.per: option", cure="set per: question"
        )
    for name in ("forms", "instruction_forms"):
        if "all" not in getattr(settings, name):
            raise ConfigError(
                "these questions have no options to search by", where=f"contexts.{name}",
                expected="all among the forms",
            )  # fmt: skip


def check_submit(
    solution: Solution,
    *,
    without_contexts: bool,
    sample: Path | None,
    faults: Sequence[KitError] = (),
    repair: bool = False,
) -> Inputs:
    """Raise all faults of a run of ``submit``; return what was read to find them.

    With ``repair``, a row that is no question is none of them: it is answered by what can be read of it.
    """
    gathered = Gathered()
    gathered.faults += faults
    with gathered.check():
        given(solution, "questions", "out", faults=faults)
    with gathered.check():
        _check_source(solution, without_contexts, faults)
    if solution.out:
        with gathered.check():
            check_out(solution, {".csv"}, [sample] if sample else [])
            refuse_other_file(solution.out)
    inputs = None
    if solution.questions:
        with gathered.check():
            bad_rows: list[InputError] = []
            path = solution.questions
            questions = read_repaired(path, bad_rows.append) if repair else Questions.read(path)
            inputs = _limited(questions, solution.limit)._replace(bad_rows=tuple(bad_rows))
    if inputs and sample is not None:
        with gathered.check():
            _require_same_ids(questions, sample)
    if inputs and solution.contexts_file and not without_contexts:
        with gathered.check():
            inputs = inputs._replace(contexts=read_contexts(solution.contexts_file, inputs.questions))
    search = not without_contexts and solution.contexts_file is None
    check_models(gathered, solution, search=search, encodes=search or uses_encoder(solution))
    _check_ram(gathered, solution, search=search)
    if inputs and solution.out and search:
        with gathered.check():
            _require_disk(solution, len(inputs.questions))
    check_rankers(gathered, solution)
    gathered.tell()
    assert inputs
    return inputs


def check_predict(
    solution: Solution, *, without_contexts: bool, faults: Sequence[KitError] = ()
) -> Inputs:
    """Raise all faults of a run of ``predict``; return what was read to find them: no contexts."""
    gathered = Gathered()
    gathered.faults += faults
    with gathered.check():
        given(solution, "questions", "out", faults=faults)
    if not (without_contexts or solution.contexts_file or at_fault(faults, "contexts_file")):
        gathered.faults.append(
            ConfigError(
                "nothing to answer from", expected="--contexts-file, or --without-contexts",
                cure="make the contexts first: python -m inference contexts",
            )
        )
    if solution.out:
        with gathered.check():
            check_out_folder(solution.out)
    inputs = None
    if solution.questions:
        with gathered.check():
            inputs = _limited(Questions.read(solution.questions), solution.limit)
    if solution.contexts_file and not without_contexts:
        with gathered.check():
            require_context_columns(column_names(solution.contexts_file), solution.contexts_file)
    unindexed = solution.model_copy(update={"index": None})
    check_models(gathered, unindexed, search=False, encodes=uses_encoder(solution))
    _check_ram(gathered, unindexed, search=False)
    check_rankers(gathered, solution)
    gathered.tell()
    assert inputs
    return inputs


def _require_disk(solution: Solution, questions: int) -> None:
    """Raise ``LimitError`` if contexts and predictions fit neither ``limits.disk`` nor the disk."""
    assert solution.out
    # Contexts in batches and, while they are joined, once more.
    contexts = 2 * solution.contexts.tokens * _BYTES_A_TOKEN
    needed = questions * (contexts + len(active_rankers(solution)) * _BYTES_A_PREDICTION)
    cure = "raise limits.disk, or lower contexts.tokens"
    require(Need("contexts and predictions", 0, cure, disk=needed), ram=None, disk=solution.limits.disk)
    require_space(solution.out.parent, needed)


def _limited(questions: Questions, limit: int | None) -> Inputs:
    left_out = len(questions) - min(limit or len(questions), len(questions))
    return Inputs(questions.take(range(len(questions) - left_out)) if left_out else questions, left_out)


def check_ask(solution: Solution, faults: Sequence[KitError] = ()) -> None:
    """Raise all faults of a run of ``ask``, except those of the question itself."""
    gathered = Gathered()
    gathered.faults += faults
    with gathered.check():
        given(solution, "index", faults=faults)
    check_models(gathered, solution, search=True, encodes=True)
    _check_ram(gathered, solution, search=True)
    check_rankers(gathered, solution)
    gathered.tell()


def _check_ram(gathered: Gathered, solution: Solution, *, search: bool) -> None:
    """Check the RAM limit on a CPU; what a GPU would hold is not known until torch has looked for one."""
    if solution.limits.ram is not None and not (solution.device or "cpu").startswith("cuda"):
        with gathered.check():
            require_limits(solution, search=search, device="cpu")


def check_rankers(gathered: Gathered, solution: Solution) -> None:
    """Check the rankers with nonzero weight, and the stack that combines them."""
    for number, settings in enumerate(solution.rankers):
        if settings.weight or solution.stack:
            with gathered.check():
                _require_trained(settings, f"rankers.{number}")
                check_ranker(settings.kind, settings.options, f"rankers.{number}")
    if solution.stack:
        with gathered.check():
            fitting_stack(solution)
    if solution.out_of_fold:
        with gathered.check():
            known = OutOfFold.read(solution.out_of_fold, len(solution.rankers))
            require_order(known.names, solution, solution.out_of_fold)


def _require_trained(settings: RankerSettings, where: str) -> None:
    """Raise ``ConfigError`` for a ranker that is described and not trained yet."""
    if settings.train is not None and not settings.options.get("folder"):
        raise ConfigError(
            "this ranker is not trained yet", where=f"{where}.train",
            expected="options.folder, the folder of a trained one",
            cure="python -m training cross-validate SOLUTION --final trains it and writes "
            "runs/NAME/solution.yaml: submit with that",
        )  # fmt: skip


def fitting_stack(solution: Solution) -> Stack:
    """The stack of these rankers; raise ``ConfigError`` if it combines others."""
    assert solution.stack
    stack = Stack.load(solution.stack)
    if len(stack.rankers) != len(solution.rankers):
        raise ConfigError(
            f"this stack combines {counted(len(stack.rankers), 'ranker')}, the settings name "
            f"{len(solution.rankers)}",
            where=solution.stack,
            expected="the cross-validated rankers, in this order: " + ", ".join(stack.rankers),
        )
    require_order(stack.rankers, solution, solution.stack)
    return stack


def require_order(stored: Sequence[str], solution: Solution, where: Path) -> None:
    """Raise ``ConfigError`` if tables of these rankers, known by their names, are in another order."""
    names = names_of([(each.kind, each.options) for each in solution.rankers])
    if sorted(names) == sorted(stored) and names != [*stored]:
        raise ConfigError(
            "the rankers are in another order", where=where,
            expected="these rankers, in this order: " + ", ".join(stored), cure="list them in that order",
        )  # fmt: skip


def uses_encoder(solution: Solution) -> bool:
    """Whether a ranker with nonzero weight uses the encoder."""
    return any(takes_index(each.kind) for each in active_rankers(solution))


def active_rankers(solution: Solution) -> list[RankerSettings]:
    """The rankers with nonzero weight; all of them if there is a stack."""
    return [each for each in solution.rankers if each.weight or solution.stack]


def _check_source(solution: Solution, without_contexts: bool, faults: Sequence[KitError]) -> None:
    sources = ("contexts_file", "index")
    if not without_contexts and not any(getattr(solution, key) or at_fault(faults, key) for key in sources):
        raise ConfigError(
            "nothing to answer from", expected="--index, --contexts-file, or --without-contexts"
        )


def _require_same_ids(questions: Questions, sample: Path) -> None:
    expected, ids = set(read_ids(sample)), {id_text(key) for key in questions.ids}
    if expected != ids:
        raise InputError(
            f"{counted(len(ids - expected), 'question is', 'questions are')} not in the sample submission, "
            f"{len(expected - ids)} of its ids are not in the questions",
            where=sample,
            expected="the same ids",
            cure="use the questions file of this competition",
        )
