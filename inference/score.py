"""Score a submission against the answers: MAP@k with its interval, precision@k, accuracy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.report.runs import StoredRun
from kaggle_rag.data.cells import text_of
from kaggle_rag.data.columns import require_columns
from kaggle_rag.data.questions import LETTERS, NO_ANSWER, Questions, check_ids, id_text
from kaggle_rag.data.submission import ranks_in_submission, read_submission, validate
from kaggle_rag.data.tables import rows_with
from kaggle_rag.evaluation.calibration import Bin, calibration_error, reliability, reliability_lines
from kaggle_rag.evaluation.metrics import (
    Interval,
    accuracy,
    average_precision_at_k,
    bootstrap,
    map_at_k,
    precision_at_k,
    ranks_of_answers,
)
from kaggle_rag.runtime.errors import InputError, KitError
from kaggle_rag.runtime.faults import Gathered
from kaggle_rag.runtime.words import counted


@dataclasses.dataclass(frozen=True)
class ScoreReport:
    """The scores of a submission.

    Attributes
    ----------
    map_at_3 : its mean, with a 95 % bootstrap interval.
    letters : number of letters in the longest prediction.
    map_at_k, precision_at_k : by k, from 1 to ``letters``.
    bins, ece : reliability of the probabilities that the submission was made from, and its expected
        calibration error; empty and ``None`` where these do not lie beside it.
    seen, unseen : how many of the questions a model of the run was trained on, and MAP@3 of the others.
    """

    map_at_3: Interval
    accuracy: float
    questions: int
    letters: int
    map_at_k: dict[int, float]
    precision_at_k: dict[int, float]
    bins: tuple[Bin, ...] = ()
    ece: Interval | None = None
    seen: int = 0
    unseen: Interval | None = None

    def as_json(self) -> dict[str, Any]:
        """The figures as plain JSON."""
        return {
            "map@3": self.map_at_3.mean, "low": self.map_at_3.low, "high": self.map_at_3.high,
            "accuracy": self.accuracy, "questions": self.questions, "letters": self.letters,
            "map@k": self.map_at_k, "precision@k": self.precision_at_k,
            "ece": self.ece and dataclasses.asdict(self.ece),
            "reliability": [dataclasses.asdict(each) for each in self.bins],
            "seen": self.seen, "unseen": self.unseen and dataclasses.asdict(self.unseen),
        }  # fmt: skip

    def text(self) -> str:
        """The figures as readable text."""
        interval = self.map_at_3
        lines = [
            f"MAP@3 {interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}] (95 %), "
            f"accuracy {self.accuracy:.4f}, {counted(self.questions, 'question')}",
            "",
            f"{'k':>3}{'MAP@k':>9}{'precision@k':>14}",
        ]
        for k, value in self.map_at_k.items():
            lines.append(f"{k:>3}{value:>9.4f}{self.precision_at_k[k]:>14.4f}")
        if self.seen:
            rest = f"MAP@3 of the others: {self.unseen}" if self.unseen else "there are no others"
            lines += ["", f"a model of the run was trained on {self.seen:,} of these questions; {rest}"]
        if self.ece:
            lines += ["", f"calibration error {self.ece}", "", *reliability_lines(self.bins)]
        return "\n".join(lines)


def score(submission: Path, solution: Path, limit: int | None = None) -> ScoreReport:
    """Score a submission file.

    Parameters
    ----------
    submission : ``id,prediction`` rows.
    solution : the questions with an ``answer`` column, or a table of ``id`` and ``answer`` alone.
    limit : score only the first questions; the submission needs no rows for the others.
    """
    ranks, letters = _ranked(submission, solution, limit)
    upto = range(1, letters + 1)
    report = ScoreReport(
        bootstrap(average_precision_at_k(ranks)), accuracy(ranks), len(ranks), letters,
        {k: map_at_k(ranks, k) for k in upto}, {k: precision_at_k(ranks, k) for k in upto},
    )  # fmt: skip
    return _with_run(report, submission, solution, ranks)


def _with_run(
    report: ScoreReport, submission: Path, solution: Path, ranks: npt.NDArray[np.int64]
) -> ScoreReport:
    """The report, extended by the run stored beside the submission, if that made it from these questions.

    ``ranks`` are those of the solution's first questions, or all.
    """
    try:
        run = StoredRun.open(submission.with_name(submission.stem + ".predictions"))
        questions = Questions.read(solution)
        rows = run.rows_in(questions, solution)
        whole = next(iter(run.mixed(questions.take(rows).present).values()))
    except KitError:
        return report
    # In the order of the solution, without questions that are not scored.
    order = np.argsort(rows)[: (rows < len(ranks)).sum()]
    asked, table = questions.take(rows[order]), whole[order]
    answers, present = asked.answers, asked.present
    # A submission that was changed, or is of another run, says nothing of these probabilities.
    if not np.array_equal(ranks_of_answers(table, answers, present) == 1, ranks == 1):
        return report
    seen = np.array([id_text(key) in run.seen for key in asked.ids], dtype=bool)
    others = average_precision_at_k(ranks[~seen])
    return dataclasses.replace(
        report, bins=reliability(table, answers, present), ece=calibration_error(table, answers, present),
        seen=int(seen.sum()), unseen=bootstrap(others) if len(others) else None,
    )  # fmt: skip


def ranks_of(submission: Path, solution: Path) -> npt.NDArray[np.int64]:
    """1-based rank of each question's right option in a submission, ``(n,)``; 27 if it is absent."""
    return _ranked(submission, solution)[0]


def _ranked(submission: Path, solution: Path, limit: int | None = None) -> tuple[npt.NDArray[np.int64], int]:
    """The ranks, and the number of letters in the longest prediction."""
    faults = Gathered()
    with faults.check():
        read_submission(submission)
    with faults.check():
        ids, answers, options = _answers(solution)
    faults.tell()
    predictions = validate(submission, ids, options, limit)
    return ranks_in_submission(predictions, answers[:limit]), max(map(len, predictions))


def _answers(path: Path) -> tuple[list[Any], np.ndarray, Any]:
    rows = rows_with(path, (), "id and answer")
    if "prompt" in rows[0]:
        questions = Questions.from_rows(rows, str(path))
        ids, answers, options = list(questions.ids), questions.answers, questions.options
    else:
        require_columns(rows[0], ("id", "answer"), path, "id and answer")
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
            "the answer is missing or not a letter",
            where=f"{path}, row {row}, column answer",
            expected="a letter in every row",
            cure="score against the train questions, or a solution file",
        )
    return ids, answers, options
