"""Required and repeated columns, and which one was meant if a name is spelled differently."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import InputError

_NOT_ALNUM = re.compile(r"[\W_]+")
# By the kit's name of a column, the names that public data sets give it.
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
# "content" is no misspelt "context": they are alike by 0.86.
_CLOSE = 0.88


def refuse_contexts(existing: Iterable[object], where: str | Path) -> None:
    """Raise ``InputError`` for a contexts file where questions are wanted: its ``question`` is a hash."""
    if {"id", "question", "option", "context", "evidence"} <= {str(name) for name in existing}:
        raise InputError(
            "this is a contexts file, not one of questions", where=where, expected="id, prompt, ...",
            cure="name the questions that it was made for; contexts are given by --contexts-file",
        )  # fmt: skip


def refuse_repeated(path: Path, names: Sequence[str]) -> None:
    """Raise ``InputError`` for two columns of a table with the same name."""
    if len(set(names)) < len(names):
        twice = min(name for name in names if names.count(name) > 1)
        raise InputError(
            f"column {twice!r} appears twice in the table",
            where=path,
            expected="every column once",
            cure="rename or drop one of the two",
        )


def require_columns(
    existing: Iterable[object], wanted: Sequence[str], where: str | Path, expected: str
) -> None:
    """Raise ``InputError`` for the first of ``wanted`` that is not a column; suggest what was meant.

    Parameters
    ----------
    where : the file, and the row if rows may differ.
    expected : what the table should hold, in words.
    """
    columns = [str(name) for name in existing]
    for name in wanted:
        if name not in columns:
            raise InputError(
                f"column {name!r} is missing; found {listed(columns)}",
                where=where,
                expected=expected,
                cure=_cure(name, columns, wanted),
            )


def refuse_misspelt(existing: Iterable[object], optional: Collection[str], where: str | Path) -> None:
    """Raise for a column that differs from an optional one only by its spelling (``Answer``).

    Otherwise an optional column would be ignored silently, just because of a capital letter. One that is
    nearly spelled so (``contxt``) may mean something else: it is only told, once per process.
    """
    columns = [str(name) for name in existing]
    for name in optional:
        alike = [column for column in columns if _plain(column) == _plain(name)]
        if name not in columns and alike:
            raise InputError(
                f"column {alike[0]!r} is not read; did you mean {name!r}?",
                where=where,
                cure=f"rename column {alike[0]!r} to {name!r}, or give it a less similar name",
            )
        # What is read under its own name, and what others call the prompt, is nothing that is misspelt.
        free = [column for column in columns if column not in (*optional, *_ALSO["prompt"])]
        if name not in columns and (near := _nearly(name, free)):
            _note(f"{where}: column {near!r} is not read; if it is {name!r}, rename it")


def _nearly(name: str, columns: Sequence[str]) -> str | None:
    """A column with a letter or two of a long name missing, doubled or swapped."""
    plain = {_plain(column): column for column in columns}
    close = difflib.get_close_matches(_plain(name), plain, 1, _CLOSE) if len(name) > 3 else []
    return plain[close[0]] if close else None


@functools.cache
def _note(text: str) -> None:
    say(f"note: {text}")


def listed(columns: Sequence[str]) -> str:
    """Column names for a message; only the first few of a wide table."""
    if not columns:
        return "none"
    names = ", ".join(name if name.strip() else repr(name) for name in columns[:_SHOWN])
    return names + (f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else "")


def meant(name: str, columns: Sequence[str]) -> str | None:
    """The column that was most likely meant by ``name``; ``None`` if none is similar."""
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
    if (suggestion := meant(name, free)) is not None:
        return f"did you mean {suggestion!r}? Rename that column to {name!r}"
    if len(name) == 1 and (lists := [column for column in free if _plain(column) in _LISTS]):
        return f"if {lists[0]!r} holds the options as a list, write each into its own column: A, B, C, ..."
    return f"name the column that holds it {name!r}, or pass another file"


def _plain(name: str) -> str:
    return _NOT_ALNUM.sub("", name).lower()
