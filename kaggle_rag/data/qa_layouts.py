"""Public layouts of questions with answers in words, as rows: SQuAD, and Natural Questions in two forms.

Sources: Rajpurkar et al. 2016 and 2018 (https://arxiv.org/abs/1606.05250, https://arxiv.org/abs/1806.03822);
Kwiatkowski et al. 2019 (https://doi.org/10.1162/tacl_a_00276); Lee et al. 2019 for its open form
(https://arxiv.org/abs/1906.00300).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kaggle_rag.data.tables import Row
from kaggle_rag.data.texts import text_lines
from kaggle_rag.runtime.errors import InputError

_TAG = re.compile(r"</?[A-Za-z][^<>]*>")


def squad_rows(path: Path) -> Iterator[Row]:
    """``id, prompt, context, answers`` of every question of a SQuAD file, version 1.1 or 2.0.

    A question that its paragraph does not answer (2.0) has the one right answer ``""``, as in the official
    evaluation.

    Raises
    ------
    InputError : not JSON, or not this layout; with the article, the paragraph and the question.
    """
    if not path.is_file():
        raise InputError("no such file", where=path, cure="check the spelling of the path")
    try:
        whole = json.loads("".join(text_lines(path)))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"not JSON: {error}", where=path, expected="a SQuAD file", cure="fetch the file again"
        ) from error
    if not isinstance(whole, dict) or "data" not in whole:
        raise InputError(
            "not the layout of SQuAD", where=path, expected='{"data": [{"paragraphs": [...]}, ...]}',
            cure="a table of questions is a .csv, .parquet or .jsonl file",
        )  # fmt: skip
    for place, article in _each(whole, "data", str(path)):
        for inner, paragraph in _each(article, "paragraphs", place):
            context = _text(paragraph, "context", inner)
            for here, question in _each(paragraph, "qas", inner):
                yield {
                    "id": _text(question, "id", here), "prompt": _text(question, "question", here),
                    "context": context, "answers": _squad_answers(question, here),
                }  # fmt: skip


def _squad_answers(question: Row, where: str) -> list[str] | None:
    """The right answers of a question; ``None`` in a test set, which has no key for them."""
    if question.get("is_impossible"):
        return [""]
    if "answers" not in question:
        return None
    return [_text(answer, "text", here) for here, answer in _each(question, "answers", where)]


def is_nq_open(row: Row) -> bool:
    """Whether a row is one of Natural Questions open: a question with a list of answers, and no id."""
    return "id" not in row and "question" in row and isinstance(row.get("answer"), list)


def natural_rows(rows: Iterable[Row], where: str) -> Iterator[Row]:
    """``id, prompt, answers`` of rows of the simplified Natural Questions.

    The answers are those that the open form is made from: every annotator's short answers, in the words of
    the page, and ``yes`` or ``no``. None are left out for their length (the open form keeps at most five
    tokens), and a question without any stays, without a known answer.

    Raises
    ------
    InputError : a missing key, or a span outside of the page; with the row.
    """
    for number, row in enumerate(rows, 1):
        place = f"{where}, row {number}"
        words = _text(row, "document_text", place).split(" ")
        answers: list[str] = []
        for here, note in _each(row, "annotations", place):
            answers += [_span(words, span, inner) for inner, span in _each(note, "short_answers", here)]
            if (said := note.get("yes_no_answer")) in ("YES", "NO"):
                answers.append(said.lower())
        yield {
            "id": row.get("example_id"), "prompt": _text(row, "question_text", place),
            "answers": [answer for answer in answers if answer],
        }  # fmt: skip


def _span(words: list[str], span: Row, where: str) -> str:
    """The words of a span, without the tags of the page among them."""
    start, end = span.get("start_token"), span.get("end_token")
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= len(words)):
        raise InputError(
            f"the span {start!r} to {end!r} is not in the page", where=where,
            expected=f"start_token and end_token from 0 to {len(words):,}",
            cure="fetch the file again: its document_text belongs to other spans",
        )  # fmt: skip
    return " ".join(word for word in words[start:end] if word and not _TAG.fullmatch(word))


def _each(parent: Row, key: str, where: str) -> Iterator[tuple[str, Row]]:
    """The objects in a list, each with its place for a message."""
    items = parent.get(key)
    if not isinstance(items, list):
        raise InputError(_missing(parent, key), where=where, expected=f'"{key}": a list of objects')
    for number, item in enumerate(items, 1):
        place = f"{where}, {key} {number}"
        if not isinstance(item, dict):
            raise InputError(f"no object, but {json.dumps(item)[:40]}", where=place, expected="an object")
        yield place, item


def _text(parent: Row, key: str, where: str) -> str:
    value: Any = parent.get(key)
    if not isinstance(value, str):
        raise InputError(_missing(parent, key), where=where, expected=f'"{key}": a text')
    return value


def _missing(parent: Row, key: str) -> str:
    return f"{key!r} is of the type {type(parent[key]).__name__}" if key in parent else f"{key!r} is missing"
