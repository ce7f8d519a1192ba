"""A submission against the answers: MAP@k with its interval, precision@k, accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.cells import text_of
from kaggle_rag.data.columns import require_columns
from kaggle_rag.data.questions import LETTERS, NO_ANSWER, Questions, check_ids
from kaggle_rag.data.submission import ranks_in_submission, validate
from kaggle_rag.data.tables import read_rows
from kaggle_rag.evaluation.metrics import (
    accuracy,
    average_precision_at_k,
    bootstrap,
    map_at_k,
    precision_at_k,
)
from kaggle_rag.runtime.errors import InputError


def score(submission: Path, solution: Path, limit: int | None = None) -> dict[str, Any]:
    """Score a submission file.

    Parameters
    ----------
    submission : ``id,prediction`` rows.
    solution : the questions with an ``answer`` column, or a table of ``id`` and ``answer`` alone.
    limit : score the first questions only, by a submission that may hold no others.

    Returns
    -------
    ``map@3``, its 95 % interval ``low`` and ``high``, ``accuracy``, ``questions``; ``letters``, those of
    the longest prediction, and ``map@k`` and ``precision@k`` by ``k`` from 1 to that.
    """
    ranks, letters = _ranked(submission, solution, limit)
    interval = bootstrap(average_precision_at_k(ranks))
    return {
        "map@3": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "accuracy": accuracy(ranks),
        "questions": len(ranks),
        "letters": letters,
        "map@k": {k: map_at_k(ranks, k) for k in range(1, letters + 1)},
        "precision@k": {k: precision_at_k(ranks, k) for k in range(1, letters + 1)},
    }


def text(result: Mapping[str, Any]) -> str:
    """The figures as a person reads them."""
    lines = [
        f"MAP@3 {result['map@3']:.4f} [{result['low']:.4f}, {result['high']:.4f}] (95 %), "
        f"accuracy {result['accuracy']:.4f}, {result['questions']:,} questions",
        "",
        f"{'k':>3}{'MAP@k':>9}{'precision@k':>14}",
    ]
    for k, value in result["map@k"].items():
        lines.append(f"{k:>3}{value:>9.4f}{result['precision@k'][k]:>14.4f}")
    return "\n".join(lines)


def ranks_of(submission: Path, solution: Path) -> npt.NDArray[np.int64]:
    """1-based rank of each question's right option in a submission, ``(n,)``; 27 where it is not there."""
    return _ranked(submission, solution)[0]


def _ranked(
    submission: Path, solution: Path, limit: int | None = None
) -> tuple[npt.NDArray[np.int64], int]:
    """The ranks, and the letters of the longest prediction."""
    ids, answers, options = _answers(solution)
    predictions = validate(submission, ids, options, limit)
    return ranks_in_submission(predictions, answers[:limit]), max(map(len, predictions))


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
