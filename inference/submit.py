"""From questions to a submission that always exists: first a guess, then whatever is known so far."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.checks import Inputs, check_submit
from inference.idle import idle
from inference.predictions import CONTEXTS, PredictionStore, predictions_beside
from inference.run_log import RUN, Clock, RunLog
from inference.run_notes import key_of, mix_of, seen_of
from kaggle_rag.config import Solution
from kaggle_rag.data.contexts import QuestionContexts, read_contexts
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.data.repair import shown
from kaggle_rag.data.submission import top_letters, validate, write_submission
from kaggle_rag.runtime.errors import InputError, KitError
from kaggle_rag.runtime.files import made_folder
from kaggle_rag.runtime.words import counted

if TYPE_CHECKING:
    from kaggle_rag.rankers.resources import Resources

# Share of the time that contexts may take: rankers without them know less, and none at all nothing.
SEARCHING = 0.5


def check(
    solution: Solution,
    *,
    without_contexts: bool = False,
    sample: Path | None = None,
    faults: Sequence[KitError] = (),
) -> Inputs:
    """Raise everything that would make `submit` fail, together with ``faults``, at once; write nothing.

    The files are checked first, in under a second; if they are valid, each ranker is made without its
    model. Return what was read.
    """
    inputs = check_submit(solution, without_contexts=without_contexts, sample=sample, faults=faults)
    _store(solution, inputs.questions, without_contexts).work.require_ours()
    _check_rankers(solution, without_contexts)
    return inputs


def _store(solution: Solution, questions: Questions, without_contexts: bool) -> PredictionStore:
    assert solution.out
    return PredictionStore(predictions_beside(solution.out), questions, key_of(solution, without_contexts))


def _check_rankers(solution: Solution, without_contexts: bool) -> None:
    for note in idle(solution, "submit", without_contexts=without_contexts):
        print("note: " + note, file=sys.stderr)
    from inference.predict import make_rankers

    make_rankers(solution, search=not without_contexts and solution.contexts_file is None)


def submit(
    solution: Solution,
    *,
    without_contexts: bool = False,
    sample: Path | None = None,
    strict: bool = False,
) -> int:
    """Answer all questions and write ``solution.out``; return the number of predictions.

    A valid submission stands before any model is loaded, and is replaced as a whole after every ranker. A
    stage that fails is logged, and the next ones go on, unless ``strict``. What rankers have answered is kept
    in ``NAME.predictions`` beside the submission: a killed run, started again, takes it up.

    Raises
    ------
    KitError : bad questions, bad settings, another competition's sample, or predictions beside the
        submission that are not to be cleared away; before any computation.
    """
    inputs = check_submit(
        solution, without_contexts=without_contexts, sample=sample, repair=not strict
    )  # fmt: skip
    if inputs.bad_rows:
        print(
            f"note: {counted(len(inputs.bad_rows), 'row is at fault', 'rows are at fault')}, answered "
            f"by what can be read of a row (--strict refuses it):\n{shown(inputs.bad_rows)}",
            file=sys.stderr,
        )
    assert solution.out
    submission = _Submission(solution.out, inputs.questions, solution.top)
    store = _store(solution, inputs.questions, without_contexts)
    log = RunLog(Clock(solution.limits.time), strict=strict)
    with made_folder(solution.out.parent), store.work.claimed() as folder:
        new = submission.guess()
        try:
            _check_rankers(solution, without_contexts)
        except KitError:
            # Nothing was answered, and what has to be fixed is said: a guess would only hide it.
            if new:
                solution.out.unlink(missing_ok=True)
            raise
        search = inputs.contexts is None and not without_contexts
        seen = seen_of(solution, inputs.questions, search=search)
        # A killed run is blended and reported by what its rankers are, too.
        notes = {"mix": mix_of(solution), "seen": seen.as_json()}
        log.write(folder / RUN, **notes)
        _answer(solution, inputs, submission, store, log, search=search)
        log.write(folder / RUN, **notes)
    _report(solution.out, len(inputs.questions), inputs.left_out, log)
    return len(inputs.questions)


class _Submission:
    """The file that is handed in; always whole, and always with an answer to every question."""

    def __init__(self, out: Path, questions: Questions, top: Any) -> None:
        self.out, self.questions, self.top = out, questions, top
        self.present = questions.present

    def guess(self) -> bool:
        """Write a submission of equal probabilities, unless one of these questions stands there already."""
        try:
            validate(self.out, self.questions.ids, self.questions.options)
            return False
        except (KitError, OSError):
            new = not self.out.exists()
            self.write(np.asarray(self.present, dtype=np.float32))
            return new

    def write(self, table: Probabilities) -> None:
        write_submission(self.out, self.questions.ids, top_letters(table, self.present, self.top))
        validate(self.out, self.questions.ids, self.questions.options)


def _answer(
    solution: Solution, inputs: Inputs, submission: _Submission, store: PredictionStore, log: RunLog,
    *, search: bool,
) -> None:  # fmt: skip
    from inference.predict import predict
    from kaggle_rag.rankers.resources import Resources

    contexts: Sequence[QuestionContexts | None] | None = inputs.contexts
    # The index stays closed when it is not searched: the rows of a contexts file may be of another index.
    resources = Resources.open(solution if search else solution.model_copy(update={"index": None}))
    if search:
        # A search that fails found none: a rerun that finds some asks the rankers again.
        contexts = [None] * len(inputs.questions)
        with log.stage("contexts") as stage:
            contexts, faults = _search(resources, inputs.questions, store, log)
            stage.questions = sum(each is not None for each in contexts)
            if stage.questions < len(inputs.questions):
                stage.note = (
                    f"contexts were found for {stage.questions:,} of "
                    f"{counted(len(inputs.questions), 'question')}" + ("" if faults else ": limits.time")
                )
            if faults:
                raise faults[0]
    predict(resources, inputs.questions, contexts, log=log, store=store, after=submission.write)


def _search(
    resources: Resources, questions: Questions, store: PredictionStore, log: RunLog
) -> tuple[list[QuestionContexts | None], list[Exception]]:
    """Contexts of the questions, as far as the time goes; those of an earlier run are taken up.

    What the search of some raised is returned, unless the log is strict: the others keep theirs.
    """
    from inference.context_batches import ContextBatches
    from kaggle_rag.retrieval.retriever import BATCH

    path = store.work.folder / f"{CONTEXTS}.parquet"
    if path.is_file():
        return [*read_contexts(path, questions)], []
    retriever = resources.retriever()
    until = log.clock.after(SEARCHING)
    batches = ContextBatches(path, questions, store.work.key, BATCH, retriever.together)
    faults: list[Exception] = []
    with batches.work.claimed():

        def in_time(seconds: float) -> bool:
            """A batch that would end late by more than half of it is not begun."""
            return log.clock.left() - seconds / 2 > until

        if batches.fill(retriever.stream, in_time, None if log.strict else faults):
            batches.join()
            return [*read_contexts(path, questions)], []
        return batches.so_far(), faults


def _report(out: Path, questions: int, left_out: int, log: RunLog) -> None:
    print(log.text(), file=sys.stderr)
    answered = [stage for stage in log.stages if stage.name.startswith("rank: ") and stage.questions]
    if not answered:
        raise InputError(
            f"no ranker answered: {out} holds a guess", where=out,
            cure="see what failed above",
        )  # fmt: skip
    if left_out:
        print(
            f"PARTIAL: {out} answers only the first {questions:,} of "
            f"{counted(questions + left_out, 'question')}. The competition will reject it: rerun the same "
            "command without --limit.",
            file=sys.stderr,
        )
