"""A submission against the answers: MAP@3 with its interval, and what chance would give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_rag.cells import text_of
from kaggle_rag.columns import require_columns
from kaggle_rag.errors import InputError
from kaggle_rag.metrics import accuracy, average_precision_at_k, bootstrap
from kaggle_rag.questions import LETTERS, NO_ANSWER, Questions, check_ids
from kaggle_rag.submission import ranks_in_submission, validate
from kaggle_rag.tables import read_rows


def score(submission: Path, solution: Path) -> dict[str, Any]:
    """Score a submission file.

    Parameters
    ----------
    submission : ``id,prediction`` rows.
    solution : the questions with an ``answer`` column, or a table of ``id`` and ``answer`` alone.

    Returns
    -------
    ``map@3``, its 95 % interval ``low`` and ``high``, ``accuracy``, ``questions``.
    """
    ranks = ranks_of(submission, solution)
    interval = bootstrap(average_precision_at_k(ranks))
    return {
        "map@3": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "accuracy": accuracy(ranks),
        "questions": len(ranks),
    }


def ranks_of(submission: Path, solution: Path) -> npt.NDArray[np.int64]:
    """1-based rank of each question's right option in a submission, ``(n,)``."""
    ids, answers, options = _answers(solution)
    return np.asarray(ranks_in_submission(validate(submission, ids, options), answers), dtype=np.int64)


def _answers(path: Path) -> tuple[list[Any], np.ndarray, Any]:
    rows = list(read_rows(path))
    if rows and "prompt" in rows[0]:
        questions = Questions.from_rows(rows, str(path))
        ids, answers, options = list(questions.ids), questions.answers, questions.options
    else:
        require_columns(rows[0] if rows else (), ("id", "answer"), path, "id and answer")
        ids = [row.get("id") for row in rows]
        check_ids(ids, str(path))
        letters = [
            (text_of(row.get("answer"), f"{path}, row {n}, column answer") or "").strip()
            for n, row in enumerate(rows, 1)
        ]
        answers = np.array([LETTERS.find(x) if len(x) == 1 else NO_ANSWER for x in letters])
        options = None
    if NO_ANSWER in answers:
        row = int(np.flatnonzero(answers == NO_ANSWER)[0]) + 1
        raise InputError(
            "the answer is missing or no letter",
            where=f"{path}, row {row}, column answer",
            expected="a letter in every row",
            cure="score against train questions, or a solution file",
        )
    return ids, answers, options
