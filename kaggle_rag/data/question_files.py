"""Questions written as a table, and the same questions read from it again, with options or without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kaggle_rag.data.questions import LETTERS, NO_ANSWER, Questions, id_text
from kaggle_rag.data.tables import read_rows
from kaggle_rag.runtime.files import whole_file


def id_array(ids: Sequence[Any]) -> pa.Array:
    """Ids as a column of their type if they share one, else as text."""
    # Several types (1 and 2.5) become text, or the integers would become floats.
    if len({type(key) for key in ids}) <= 1:
        try:
            return pa.array(ids)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            pass
    return pa.array([id_text(key) for key in ids], pa.string())


def write_questions(path: str | Path, questions: Questions) -> None:
    """Write ``id, prompt, A, B, ..., answer, context, is_question`` as a complete Parquet file."""
    options = list(zip(*questions.options)) or [()] * questions.width
    answers = [None if answer == NO_ANSWER else LETTERS[answer] for answer in questions.answers]
    table = pa.table(
        {
            "id": id_array(questions.ids),
            "prompt": pa.array(questions.prompts, pa.string()),
            **{letter: pa.array(texts, pa.string()) for letter, texts in zip(LETTERS, options)},
            "answer": pa.array(answers, pa.string()),
            "context": pa.array(questions.contexts, pa.string()),
            "is_question": pa.array(questions.is_question),
        }
    )
    with whole_file(path) as aside:
        pq.write_table(table, aside)


def read_written(path: str | Path) -> Questions:
    """The questions that `write_questions` wrote."""
    rows = list(read_rows(path))
    of = Questions.from_rows if rows and LETTERS[0] in rows[0] else Questions.open_of
    return of(rows, str(path))
