"""Questions to a submission: written whole, then read back and checked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from inference.checks import check_submit, read_questions
from inference.idle import idle
from kaggle_rag.config import Solution
from kaggle_rag.data.questions import Questions
from kaggle_rag.data.submission import top_letters, validate, write_submission
from kaggle_rag.runtime.errors import KitError


def check(
    solution: Solution,
    *,
    without_contexts: bool = False,
    sample: Path | None = None,
    faults: Sequence[KitError] = (),
) -> None:
    """Raise, all at once, what would make `submit` fail, ``faults`` of the settings with it; write nothing.

    The files are asked first, which takes no second; where they are right, each ranker is made without
    its model.
    """
    check_submit(solution, without_contexts=without_contexts, sample=sample, faults=faults)
    for line in idle(solution, "submit", without_contexts=without_contexts):
        print("note: " + line, file=sys.stderr)
    from inference.predict import make_rankers

    make_rankers(solution, search=not without_contexts and solution.contexts_file is None)


def submit(solution: Solution, *, without_contexts: bool = False, sample: Path | None = None) -> int:
    """Answer all questions and write ``solution.out``; give the number of predictions.

    Raises
    ------
    KitError : before anything is computed for bad questions, settings or a foreign sample.
    """
    check(solution, without_contexts=without_contexts, sample=sample)
    from inference.contexts import contexts_for
    from inference.predict import predict
    from kaggle_rag.rankers.resources import Resources

    assert solution.questions and solution.out
    questions = read_questions(solution)
    resources = Resources.open(_needed(solution, without_contexts))
    contexts = contexts_for(resources, questions, without=without_contexts)
    table = predict(resources, questions, contexts)
    write_submission(solution.out, questions.ids, top_letters(table, questions.present, solution.top))
    validate(solution.out, questions.ids, questions.options)
    _tell_partial(solution)
    return len(questions)


def _tell_partial(solution: Solution) -> None:
    if solution.limit is None:
        return
    assert solution.questions
    whole = len(Questions.read(solution.questions))
    if solution.limit < whole:
        print(
            f"PARTIAL: {solution.out} answers the first {solution.limit:,} of {whole:,} questions only. "
            "The competition will refuse it: give the same command without --limit.",
            file=sys.stderr,
        )


def _needed(solution: Solution, without_contexts: bool) -> Solution:
    """Leave the index closed when it is not searched: rows of a ready file may be another's."""
    if without_contexts or solution.contexts_file is not None:
        return solution.model_copy(update={"index": None})
    return solution
