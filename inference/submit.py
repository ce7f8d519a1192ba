"""From questions to a submission: written atomically, then read back and verified."""

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
    """Raise everything that would make `submit` fail, together with ``faults``, at once; write nothing.

    The files are checked first, in under a second; if they are valid, each ranker is made without its
    model. Return what was read.
    """
    inputs = check_submit(solution, without_contexts=without_contexts, sample=sample, faults=faults)
    for note in idle(solution, "submit", without_contexts=without_contexts):
        print("note: " + note, file=sys.stderr)
    from inference.predict import make_rankers

    make_rankers(solution, search=not without_contexts and solution.contexts_file is None)
    return inputs


def submit(solution: Solution, *, without_contexts: bool = False, sample: Path | None = None) -> int:
    """Answer all questions and write ``solution.out``; return the number of predictions.

    Raises
    ------
    KitError : bad questions, bad settings or another competition's sample; before any computation.
    """
    questions, left_out, contexts = check(solution, without_contexts=without_contexts, sample=sample)
    from inference.predict import predict
    from kaggle_rag.rankers.resources import Resources
    from kaggle_rag.runtime.limits import stage

    assert solution.out
    search = contexts is None and not without_contexts
    # The index stays closed when it is not searched: the rows of a contexts file may be of another index.
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
            f"PARTIAL: {solution.out} answers only the first {len(questions):,} of "
            f"{len(questions) + left_out:,} questions. The competition will reject it: rerun the same "
            "command without --limit.",
            file=sys.stderr,
        )
    return len(questions)
