"""The question table that every stage shares: read, checked, 2 to 26 options, letters kept."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import string
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.cells import LARGEST_WHOLE, text_of
from kaggle_rag.data.columns import refuse_contexts, refuse_misspelt, require_columns
from kaggle_rag.data.tables import Row, read_rows
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.words import counted

LETTERS = string.ascii_uppercase
NO_ANSWER = -1
# NUL, and lone surrogates that broken JSON smuggles in.
_UNFIT = re.compile("[\0\ud800-\udfff]")
# Visible characters: no blanks, and no joiners and direction marks, which have no width.
_VISIBLE = re.compile("[^\\s\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_OPTIONAL = ("answer", "context", "is_question")
_TABLE = "id, prompt, A, B, ... (up to Z); answer, context and is_question are optional"
_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Question(NamedTuple):
    """One row of `Questions`, with the meaning of its columns."""

    id: Any
    prompt: str
    options: tuple[str | None, ...]
    answer: int
    context: str | None
    is_question: bool


@dataclasses.dataclass(frozen=True)
class Questions:
    """``n`` questions with up to ``k`` options each, in file order.

    Attributes
    ----------
    ids : the ids as read (text from CSV; any type from Parquet and JSON lines, except that a whole
        float becomes an int: pandas turns a column of ints with a gap into floats).
    prompts : the question texts.
    options : per question, ``k`` entries in column order; ``None`` if the option is absent, so
        that a letter always means its column, even if a cell in the middle is empty.
    answers : ``(n,)`` int64, the column of the right option, or ``NO_ANSWER`` (-1).
    contexts : a context from the file, or ``None``.
    is_question : ``(n,)`` bool; ``False`` marks an instruction ("Name the gas that ...").
    """

    ids: tuple[Any, ...]
    prompts: tuple[str, ...]
    options: tuple[tuple[str | None, ...], ...]
    answers: npt.NDArray[np.int64]
    contexts: tuple[str | None, ...]
    is_question: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Question]:
        columns = (self.ids, self.prompts, self.options, self.answers.tolist(), self.contexts)
        return map(Question, *columns, self.is_question.tolist())

    @property
    def width(self) -> int:
        """``k``: the number of option columns."""
        return len(self.options[0]) if self.options else 0

    @property
    def letters(self) -> str:
        return LETTERS[: self.width]

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """``(n, k)`` bool: which options exist."""
        return np.array([[o is not None for o in row] for row in self.options], dtype=bool).reshape(
            len(self), self.width
        )

    @property
    def has_answers(self) -> bool:
        return len(self) > 0 and bool((self.answers != NO_ANSWER).all())

    def fingerprints(self) -> list[str]:
        """A short hash of each question's prompt and options, in any table with as many option columns."""
        return [
            hashlib.blake2b(repr((prompt, options)).encode(), digest_size=8).hexdigest()
            for prompt, options in zip(self.prompts, self.options)
        ]

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> Questions:
        """The questions at ``rows``, in that order."""
        chosen = np.asarray(rows, dtype=np.int64)
        return Questions(
            ids=tuple(self.ids[i] for i in chosen),
            prompts=tuple(self.prompts[i] for i in chosen),
            options=tuple(self.options[i] for i in chosen),
            answers=self.answers[chosen],
            contexts=tuple(self.contexts[i] for i in chosen),
            is_question=self.is_question[chosen],
        )

    @classmethod
    def read(cls, path: str | Path) -> Questions:
        """Read ``id, prompt, A, B, ..., answer?, context?, is_question?`` from a table.

        Raises
        ------
        InputError : with the file, row and column, for the first fault found.
        """
        rows = list(read_rows(path))
        if not rows:
            raise InputError(
                "the file has a header but no rows", where=path, expected="at least one question"
            )
        return cls.from_rows(rows, str(path))

    @classmethod
    def from_rows(cls, rows: Sequence[Row], where: str) -> Questions:
        """Build the table from dictionaries, checking every row; ``where`` names their source."""
        return cls._of(rows, option_letters(_columns(rows), where), where)

    @classmethod
    def open_of(cls, rows: Sequence[Row], where: str) -> Questions:
        """The same of questions without options, which are answered in words: ``width`` is 0."""
        return cls._of(rows, "", where)

    @classmethod
    def _of(cls, rows: Sequence[Row], letters: str, where: str) -> Questions:
        check_ids([row.get("id") for row in rows], where)
        options: list[tuple[str | None, ...]] = [
            _options(row, letters, f"{where}, row {n}") if letters else () for n, row in enumerate(rows, 1)
        ]
        return cls(
            ids=tuple(_id(row["id"]) for row in rows),
            prompts=tuple(_prompt(row, f"{where}, row {n}") for n, row in enumerate(rows, 1)),
            options=tuple(options),
            answers=np.array(
                [_answer(row, options[n - 1], letters, f"{where}, row {n}") for n, row in enumerate(rows, 1)],
                dtype=np.int64,
            ),
            contexts=tuple(_text(row, "context", f"{where}, row {n}") for n, row in enumerate(rows, 1)),
            is_question=np.array(
                [truth_of(row, f"{where}, row {n}") for n, row in enumerate(rows, 1)], dtype=bool
            ),
        )


def check_ids(ids: Iterable[Any], where: str) -> None:
    """Raise ``InputError`` for an empty id, or one that appears in two rows (compared as text)."""
    first_row: dict[str, int] = {}
    for number, value in enumerate(ids, 1):
        key = id_text(value, f"{where}, row {number}, column id")
        if not key.strip():
            raise InputError(
                "the id is empty", where=f"{where}, row {number}, column id", expected="one id per row"
            )
        if unfit := _UNFIT.search(key):
            raise InputError(
                f"the id {key!r} holds a character that no CSV file can hold ({unfit[0]!r})",
                where=f"{where}, row {number}, column id",
                cure="remove it from the id",
            )
        # To a reader that converts ids to numbers, such as pandas, "1" and " 1" are one id.
        stripped = key.strip()
        if stripped in first_row:
            raise InputError(
                f"id {stripped!r} appears in two rows",
                where=f"{where}, rows {first_row[stripped]} and {number}, column id",
                expected="every id once, whatever the spaces around it",
                cure="drop one of the two rows or give it its own id",
            )
        first_row[stripped] = number


def id_text(value: Any, where: str = "column id") -> str:
    """An id as written to a CSV; two ids are the same if their texts are.

    Raises
    ------
    InputError : the id has no single text form, such as a structure.
    """
    return text_of(value, where) or ""


def _id(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_WHOLE:
        return int(value)
    return id_text(value) if isinstance(value, (bytes, list)) else value


def require_answers(answers: npt.NDArray[np.int64]) -> None:
    """Raise ``InputError`` if a question has no answer."""
    if (missing := np.flatnonzero(answers == NO_ANSWER)).size == len(answers) > 0:
        raise InputError(
            "no question has an answer", expected="a column 'answer' with the letter of the right option",
            cure="use the train file; or name the column that holds it 'answer'",
        )  # fmt: skip
    if missing.size:
        raise InputError(
            f"{missing.size:,} of {counted(len(answers), 'question has', 'questions have')} no answer",
            where=f"row {missing[0] + 1}",
            expected="the right option of every question",
            cure="leave out the questions without an answer",
        )


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def option_letters(columns: Sequence[str], where: str) -> str:
    """The letters of a table's options; raise ``InputError`` for columns that are no question's."""
    refuse_contexts(columns, where)
    require_columns(columns, ("id", "prompt", "A", "B"), where, _TABLE)
    letters = "".join(letter for letter in LETTERS if letter in columns)
    if letters != LETTERS[: len(letters)]:
        gap = next(a for a in LETTERS if a not in letters)
        raise InputError(
            f"option columns are {', '.join(letters)}: column {gap!r} is missing",
            where=where,
            expected="option columns without a gap, A, B, C, ...",
            cure=f"name the column of the option {gap!r}, or move the later ones up",
        )
    if letters == LETTERS and (more := [name for name in columns if name.strip().upper() == "AA"]):
        raise InputError(
            f"column {more[0]!r} would be the 27th option",
            where=where,
            expected="at most 26 options, A to Z",
            cure="drop options, or rename the column if it is not an option",
        )
    refuse_misspelt(columns, (*_OPTIONAL, *LETTERS[len(letters) : len(letters) + 1]), where)
    return letters


def is_visible(text: str) -> bool:
    """Whether a text has a character that shows; a cell of others counts as empty."""
    return _VISIBLE.search(text) is not None


def _text(row: Row, column: str, where: str) -> str | None:
    """The text of a row's cell by the rule of `kaggle_rag.data.cells`; ``None`` if it is empty."""
    text = text_of(row.get(column), f"{where}, column {column}")
    return _UNFIT.sub("\ufffd", text) if text and is_visible(text) else None


def _prompt(row: Row, where: str) -> str:
    text = _text(row, "prompt", where)
    if text is None:
        raise InputError("the prompt is empty", where=f"{where}, column prompt", expected="a question")
    return text


def _options(row: Row, letters: str, where: str) -> tuple[str | None, ...]:
    options = tuple(_text(row, letter, where) for letter in letters)
    count = sum(option is not None for option in options)
    if count < 2:
        raise InputError(
            f"the question has {count} option{'' if count == 1 else 's'}",
            where=where,
            expected="at least 2 of the columns " + ", ".join(letters) + " filled",
            cure="fill the cells or drop the row",
        )
    return options


def _answer(row: Row, options: tuple[str | None, ...], letters: str, where: str) -> int:
    text = _text(row, "answer", where)
    if text is None:
        return NO_ANSWER
    column = letters.find(text.strip()) if len(text.strip()) == 1 else -1
    if column < 0 or options[column] is None:
        present = [letter for letter, option in zip(letters, options) if option is not None]
        raise InputError(
            f"the answer {text!r} is not one of the options",
            where=f"{where}, column answer",
            expected="one of " + ", ".join(present),
            cure=_letter_meant(text.strip(), options, letters),
        )
    return column


def _letter_meant(text: str, options: Sequence[str | None], letters: str) -> str:
    """How to turn an answer that is not a letter into one."""
    if len(text) == 1 and text != text.upper() and text.upper() in letters:
        return f"write answers in capitals: {text.upper()}"
    alike = [letter for letter, option in zip(letters, options) if option and option.strip() == text]
    if alike:
        return f"it is the text of option {alike[0]}: write the letters of options, not their texts"
    if text.isdecimal():
        return "write letters instead of numbers: A is the first option"
    return "write the one letter of the right option, or leave the cell empty"


def truth_of(row: Row, where: str) -> bool:
    """Whether a row is a question, not an instruction; raise ``InputError`` for what says neither."""
    text = _text(row, "is_question", where)
    if text is None:
        return True
    if text.strip().lower() not in _TRUTHS:
        raise InputError(
            f"cannot read {text!r} as yes or no",
            where=f"{where}, column is_question",
            expected="one of " + ", ".join(_TRUTHS),
        )
    return _TRUTHS[text.strip().lower()]
