"""Questions that are answered in words, with all their right answers, from every layout that they come in.

=======================================  =============================================================
the file                                 what is read of it
=======================================  =============================================================
``.csv``, ``.parquet``, ``.jsonl``       ``id``, ``prompt`` (or ``question``), and optionally ``answer``
                                         or ``answers``, ``context``; a list of texts is several right
                                         answers, in CSV ``answers`` is a JSON list
the same with ``A``, ``B``, ...          a multiple-choice table: the text of the option ``answer`` names
``.json``                                SQuAD 1.1 or 2.0 (`kaggle_rag.data.qa_layouts`)
``.jsonl`` with ``question``, ``answer`` Natural Questions open; ids are the rows' numbers
``.jsonl`` with ``annotations``          Natural Questions, simplified (`kaggle_rag.data.qa_layouts`)
=======================================  =============================================================
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kaggle_rag.data import qa_layouts
from kaggle_rag.data.cells import text_of
from kaggle_rag.data.columns import refuse_contexts, refuse_misspelt, require_columns
from kaggle_rag.data.compressed import inner_name
from kaggle_rag.data.questions import NO_ANSWER, Questions
from kaggle_rag.data.tables import Row, read_rows
from kaggle_rag.runtime.errors import InputError

_TABLE = "id, prompt; answer or answers, and context, are optional"


@dataclasses.dataclass(frozen=True)
class OpenQuestions:
    """``n`` questions, and what answers them.

    Attributes
    ----------
    questions : their ids, prompts and own contexts; without options (``width`` 0) unless the file has some.
    golds : the right answers of each, distinct and in file order; ``("",)`` where the right answer is none
        (SQuAD 2.0), ``()`` where none is known.
    """

    questions: Questions
    golds: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.questions)

    def first(self, limit: int | None) -> OpenQuestions:
        """The first ``limit`` questions; all of them without a limit."""
        if limit is None or limit >= len(self):
            return self
        return OpenQuestions(self.questions.take(range(limit)), self.golds[:limit])

    @classmethod
    def read(cls, path: str | Path) -> OpenQuestions:
        """Read a file of any of the layouts above.

        Raises
        ------
        InputError : with the file and the place, for the first fault found.
        """
        path = Path(path)
        if Path(inner_name(path)).suffix == ".json":
            return cls._of(qa_layouts.squad_rows(path), str(path))
        rows = read_rows(path)
        if (first := next(rows, None)) is None:
            raise InputError(
                "the file has a header but no rows", where=path, expected="at least one question"
            )
        refuse_contexts(first, path)
        if "annotations" in first:
            return cls._of(qa_layouts.natural_rows(itertools.chain([first], rows), str(path)), str(path))
        table = [first, *rows]
        # A row of JSON lines may leave out the options that it does not have.
        if {"A", "B"} <= {name for row in table for name in row}:
            return cls._of_choices(Questions.from_rows(table, str(path)))
        if qa_layouts.is_nq_open(first):
            table = [{"id": number, **row} for number, row in enumerate(table, 1)]
        return cls._of(table, str(path))

    @classmethod
    def _of_choices(cls, questions: Questions) -> OpenQuestions:
        """A multiple-choice table: its right answers are texts of options."""
        golds = [
            () if row.answer == NO_ANSWER else (str(row.options[row.answer]).strip(),) for row in questions
        ]
        return cls(questions, tuple(golds))

    @classmethod
    def _of(cls, rows: Iterable[Row], where: str) -> OpenQuestions:
        table = [{"prompt": row.pop("question"), **row} if _asks(row) else row for row in rows]
        columns = dict.fromkeys(name for row in table for name in row)
        require_columns(columns, ("id", "prompt"), where, _TABLE)
        refuse_misspelt(columns, ("answer", "answers", "context", "is_question"), where)
        if {"answer", "answers"} <= columns.keys():
            raise InputError(
                "there is a column answer and a column answers", where=where, expected="one of them",
                cure="rename the one that does not hold the right answers",
            )  # fmt: skip
        golds = [golds_of(row, f"{where}, row {number}") for number, row in enumerate(table, 1)]
        asked = [{k: v for k, v in row.items() if k not in ("answer", "answers")} for row in table]
        return cls(Questions.open_of(asked, where), tuple(golds))


def _asks(row: Row) -> bool:
    """Whether a row calls its prompt a question, as data sets of this kind do."""
    return "question" in row and "prompt" not in row


def golds_of(row: Row, where: str) -> tuple[str, ...]:
    """The right answers of a row, from ``answer`` or ``answers``.

    Raises
    ------
    InputError : a cell that holds neither a text nor several.
    """
    name = "answers" if "answers" in row else "answer"
    cell, where = row.get(name), f"{where}, column {name}"
    if name == "answers" and isinstance(cell, str):
        cell = _listed(cell, where)
    if isinstance(cell, dict) and isinstance(cell.get("text"), list):
        # As the datasets library stores SQuAD; no text there is the answer that there is none.
        cell = cell["text"] or [""]
    if not isinstance(cell, (list, tuple)):
        text = text_of(cell, where)
        return (text.strip(),) if text and text.strip() else ()
    return distinct(cell, where)


def distinct(texts: Sequence[Any], where: str) -> tuple[str, ...]:
    """Several texts without those that appear twice; raise ``InputError`` for one that is no text."""
    for text in texts:
        if not isinstance(text, str):
            raise InputError(
                f"a right answer is no text, but {text!r}", where=where, expected="a list of texts"
            )
    return tuple(dict.fromkeys(text.strip() for text in texts))


def _listed(cell: str, where: str) -> Any:
    """The JSON list in a cell of a CSV file; an empty cell has none."""
    if not cell.strip():
        return None
    try:
        found = json.loads(cell)
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise InputError(
            f"cannot read the right answers {cell[:40]!r}", where=where, expected='a list such as ["a", "b"]',
            cure="call the column answer if each cell is the one right answer",
        )  # fmt: skip
    return found
