"""Questions to a submission: written whole, then read back and checked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from inference.checks import Inputs, check_submit
from inference.idle import idle
from kaggle_rag.config import Solution
from kaggle_rag.data.submission import top_letters, validate, write_submission
from kaggle_rag.runtime.errors import KitError


def check(
    solution: Solution,
    *,
    without_contexts: bool = False,
    sample: Path | None = None,
    faults: Sequence[KitError] = (),
) -> Inputs:
    """Raise, all at once, what would make `submit` fail, ``faults`` of the settings with it; write nothing.

    The files are checked first, which takes less than a second; if they are right, each ranker is made
    without its model. What was read comes back.
    """
    inputs = check_submit(solution, without_contexts=without_contexts, sample=sample, faults=faults)
    for line in idle(solution, "submit", without_contexts=without_contexts):
        print("note: " + line, file=sys.stderr)
    from inference.predict import make_rankers

    make_rankers(solution, search=not without_contexts and solution.contexts_file is None)
    return inputs


def submit(solution: Solution, *, without_contexts: bool = False, sample: Path | None = None) -> int:
    """Answer all questions and write ``solution.out``; give the number of predictions.

    Raises
    ------
    KitError : before anything is computed for bad questions, settings or a foreign sample.
    """
    questions, left_out, contexts = check(solution, without_contexts=without_contexts, sample=sample)
    from inference.predict import predict
    from kaggle_rag.rankers.resources import Resources
    from kaggle_rag.runtime.limits import stage

    assert solution.out
    search = contexts is None and not without_contexts
    # The index stays closed when it is not searched: the rows of a ready file may be another index's.
    resources = Resources.open(solution if search else solution.model_copy(update={"index": None}))
    if search:
        retriever = resources.retriever()
        with stage("contexts", quiet=False):
            contexts = retriever(questions, progress=True)
    table = predict(resources, questions, contexts)
    write_submission(solution.out, questions.ids, top_letters(table, questions.present, solution.top))
    validate(solution.out, questions.ids, questions.options)
    if left_out:
        print(
            f"PARTIAL: {solution.out} answers the first {len(questions):,} of {len(questions) + left_out:,} "
            "questions only. The competition will refuse it: rerun the same command without --limit.",
            file=sys.stderr,
        )
    return len(questions)
