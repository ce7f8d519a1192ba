"""Columns that must be there, and which one was meant where a name is spelt in another way."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from kaggle_rag.runtime.errors import InputError

_NOT_ALNUM = re.compile(r"[\W_]+")
# Names of public data sets for what the kit calls by the name in front.
_ALSO = {
    "prompt": ("question", "stem", "query", "question_text", "questions"),
    "answer": ("label", "correct", "correct_answer", "answer_key", "target", "gold"),
    "id": ("qid", "question_id", "index", "row_id", "page_id", "docid"),
    "text": ("content", "body", "context", "article", "passage", "document", "sentence"),
    "title": ("name", "page_title", "article_title", "heading"),
    "prediction": ("predictions", "answer", "label"),
    "score": ("label", "relevance", "probability"),
    "passage": ("text", "document", "context"),
}
_OPTION = ("option_{}", "op_{}", "opt_{}", "choice_{}", "answer_{}", "options_{}", "{}")
# Columns of public data sets that hold all options of a question.
_LISTS = {"choices", "options", "endings", "candidates", "alternatives"}
_SHOWN = 20


def require_columns(
    there: Iterable[object], wanted: Sequence[str], where: str | Path, expected: str
) -> None:
    """Raise ``InputError`` for the first of ``wanted`` that is not among the columns; name what was meant.

    Parameters
    ----------
    where : the file, and the row where rows may differ.
    expected : what the table should hold, in words.
    """
    columns = [str(name) for name in there]
    for name in wanted:
        if name not in columns:
            raise InputError(
                f"column {name!r} is missing; there are {listed(columns)}",
                where=where,
                expected=expected,
                cure=_cure(name, columns, wanted),
            )


def refuse_misspelt(there: Iterable[object], optional: Iterable[str], where: str | Path) -> None:
    """Raise for a column that differs from an optional one by its spelling alone (``Answer``).

    What may be missing would be passed over without a word, for want of a capital letter.
    """
    columns = [str(name) for name in there]
    for name in optional:
        alike = [column for column in columns if _plain(column) == _plain(name)]
        if name not in columns and alike:
            raise InputError(
                f"column {alike[0]!r} is not read; did you mean {name!r}?",
                where=where,
                cure=f"rename column {alike[0]!r} to {name!r}, or give it a name that is not alike",
            )


def listed(columns: Sequence[str]) -> str:
    """Names of columns for a message, of a wide table the first few."""
    if not columns:
        return "none"
    names = ", ".join(name if name.strip() else repr(name) for name in columns[:_SHOWN])
    return names + (f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else "")


def meant(name: str, columns: Sequence[str]) -> str | None:
    """The column that was most likely meant by ``name``; ``None`` where none is like it."""
    plain = {_plain(column): column for column in reversed(columns) if _plain(column)}
    forms = [form.format(name) for form in _OPTION] if len(name) == 1 else _ALSO.get(name, ())
    for form in (name, *forms):
        if _plain(form) in plain:
            return plain[_plain(form)]
    if len(name) < 3:
        return None
    close = difflib.get_close_matches(_plain(name), plain, 1, 0.75)
    return plain[close[0]] if close else None


def _cure(name: str, columns: Sequence[str], wanted: Sequence[str]) -> str:
    free = [column for column in columns if column not in wanted]
    if (found := meant(name, free)) is not None:
        return f"did you mean {found!r}? Rename that column to {name!r}"
    if len(name) == 1 and (lists := [column for column in free if _plain(column) in _LISTS]):
        return f"if {lists[0]!r} holds the options as a list, write each into a column: A, B, C, ..."
    return f"name the column that holds it {name!r}, or give another file"


def _plain(name: str) -> str:
    return _NOT_ALNUM.sub("", name).lower()
