"""Questions to train on: their right options, gold passages and queries, and which are held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kaggle_rag.data.cells import text_of
from kaggle_rag.data.columns import require_columns
from kaggle_rag.data.questions import LETTERS, NO_ANSWER, Questions, id_text
from kaggle_rag.data.tables import read_rows
from kaggle_rag.evaluation.duplicates import find_duplicates, find_shared
from kaggle_rag.evaluation.folds import group
from kaggle_rag.retrieval.queries import queries_of
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.words import counted
from kaggle_rag.text.normalise import same


@dataclasses.dataclass(frozen=True)
class RetrievalQuery:
    """One question; ``positive`` is the passage that answers it, once it is known.

    ``forms`` are its queries, a tuple per form. None of them reveals which option is right, and a form that
    queries one option at a time queries all of them: training must see what inference sees.
    """

    id: str
    prompt: str
    options: tuple[str | None, ...]
    answer: int
    forms: tuple[tuple[str, ...], ...]
    positive: str | None = None

    @property
    def right(self) -> str:
        return self.options[self.answer] or ""

    @property
    def wrong(self) -> list[str]:
        return [o for i, o in enumerate(self.options) if o is not None and i != self.answer]


def read_queries(path: Path, positive: str | None, forms: Sequence[str]) -> list[RetrievalQuery]:
    """The questions of a file, each with its answer and, if a column is named, its gold passage.

    Raises
    ------
    InputError : a question without an answer, no such column, an empty positive.
    """
    rows = list(read_rows(path))
    table = Questions.from_rows(rows, str(path)) if rows else Questions.read(path)
    if missing := np.flatnonzero(table.answers == NO_ANSWER).tolist():
        raise InputError(
            f"{len(missing):,} of {counted(len(rows), 'question has', 'questions have')} no answer",
            where=f"{path}, row {missing[0] + 1}, column answer",
            expected="the letter of the right option in every row",
            cure="train on questions with answers",
        )
    golds = [None] * len(rows) if positive is None else [
        _gold(row, positive, f"{path}, row {n}") for n, row in enumerate(rows, 1)
    ]  # fmt: skip
    queries = [queries_of(table, (form,), (form,)) for form in forms]
    return [
        RetrievalQuery(
            id_text(table.ids[i]), table.prompts[i], table.options[i],
            int(table.answers[i]), tuple(tuple(q.text for q in form[i]) for form in queries), golds[i],
        )
        for i in range(len(table))
    ]  # fmt: skip


def _gold(row: dict[str, object], column: str, where: str) -> str:
    require_columns(row, [column], where, "a column with the passage that answers")
    if isinstance(row[column], list):
        raise InputError(
            "the positive is not text", where=f"{where}, column {column}", expected="one passage per question"
        )
    text = (text_of(row[column], f"{where}, column {column}") or "").strip()
    if not text:
        raise InputError(
            "the positive is empty", where=f"{where}, column {column}", expected="a passage",
            cure="fill the cell or drop the row",
        )  # fmt: skip
    return text


def without(questions: Sequence[RetrievalQuery], paths: Sequence[Path]) -> list[RetrievalQuery]:
    """The questions without a near-duplicate in these files (`kaggle_rag.evaluation.duplicates`).

    An equal prompt is enough, whatever its options: it would be the query.
    """
    duplicates: set[int] = set()
    prompts: set[str] = set()
    for path in paths if questions else ():
        others = Questions.read(path)
        duplicates |= {pair.left for pair in find_shared(table_of(questions), others)}
        prompts |= {same(prompt) for prompt in others.prompts}
    return [
        question
        for number, question in enumerate(questions)
        if number not in duplicates and same(question.prompt) not in prompts
    ]


def split(
    questions: Sequence[RetrievalQuery], held_out: float, seed: int
) -> tuple[list[RetrievalQuery], list[RetrievalQuery]]:
    """Training questions and held-out questions, about a share ``held_out`` of them.

    Near-duplicates, and questions with the same positive, stay on one side.
    """
    if not held_out or not questions:
        return list(questions), []
    duplicates = find_duplicates(table_of(questions))
    labels = group(len(questions), duplicates, [_key(question) for question in questions]).labels
    sizes = np.bincount(labels)
    order = np.random.default_rng(seed).permutation(len(sizes))
    # Groups in random order, until they contain enough questions.
    before = np.cumsum(sizes[order]) - sizes[order]
    held = np.isin(labels, order[before < held_out * len(questions)])
    return (
        [question for question, out in zip(questions, held) if not out],
        [question for question, out in zip(questions, held) if out],
    )


def _key(question: RetrievalQuery) -> str | None:
    return same(question.positive) if question.positive else None


def table_of(questions: Sequence[RetrievalQuery]) -> Questions:
    """The questions as a `Questions` table."""
    rows = [
        {"id": question.id, "prompt": question.prompt, "answer": LETTERS[question.answer],
         **dict(zip(LETTERS, question.options))}
        for question in questions
    ]  # fmt: skip
    return Questions.from_rows(rows, "questions")


def draw(questions: Sequence[RetrievalQuery], count: int, seed: int) -> list[tuple[int, str]]:
    """Draw ``count`` queries per question, as (question, query), regardless of the answer.

    All forms are equally likely, however many queries they have; a query may be drawn twice.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for number, question in enumerate(questions):
        for _ in range(count):
            form = question.forms[rng.integers(len(question.forms))]
            drawn.append((number, form[rng.integers(len(form))]))
    return drawn
