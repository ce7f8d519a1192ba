"""Questions to a submission: written whole, then read back and checked."""

from __future__ import annotations

from pathlib import Path

from inference.pipeline import Bench, check_out, check_rankers, contexts_for, given, predict
from kaggle_rag.config import Solution
from kaggle_rag.errors import ConfigError, InputError
from kaggle_rag.questions import Questions, id_text
from kaggle_rag.submission import is_submission, read_ids, top_letters, validate, write_submission


def submit(solution: Solution, *, without_contexts: bool = False, sample: Path | None = None) -> int:
    """Answer all questions and write ``solution.out``; give the number of predictions.

    Raises
    ------
    KitError : before anything is computed for bad questions, settings or a foreign sample.
    """
    given(solution, "questions", "out")
    assert solution.questions and solution.out
    if not without_contexts and solution.contexts_file is None and solution.index is None:
        raise ConfigError(
            "nothing to answer from", expected="--index, --contexts-file, or --without-contexts"
        )
    check_out(solution, {".csv"}, [sample] if sample else [])
    if solution.out.exists() and not is_submission(solution.out):
        raise InputError(
            "a file that is no submission is there already", where=solution.out, cure="choose another --out"
        )
    check_rankers(solution)
    questions = Questions.read(solution.questions)
    if sample is not None:
        _same_ids(questions, sample)
    bench = Bench.open(_needed(solution, without_contexts))
    contexts = contexts_for(bench, questions, without=without_contexts)
    table = predict(bench, questions, contexts)
    write_submission(solution.out, questions.ids, top_letters(table, questions.present))
    validate(solution.out, questions.ids, questions.options)
    return len(questions)


def _needed(solution: Solution, without_contexts: bool) -> Solution:
    """Leave the index closed when it is not searched: rows of a ready file may be another's."""
    if without_contexts or solution.contexts_file is not None:
        return solution.model_copy(update={"index": None})
    return solution


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
