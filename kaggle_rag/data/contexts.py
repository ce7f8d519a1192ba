"""What a ranker reads: a context per question (or option), and the evidence it was made from."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from kaggle_rag.data.cells import text_of
from kaggle_rag.data.question_files import id_array
from kaggle_rag.data.questions import LETTERS, Questions, id_text
from kaggle_rag.data.tables import read_rows
from kaggle_rag.runtime.errors import ArtifactError, InputError
from kaggle_rag.runtime.files import whole_file

NOTES = b"kaggle_rag"
# Evidence from the row's own context belongs to no article.
OWN = "own context"


class Evidence(NamedTuple):
    """One retrieved passage; ``query`` is the form (`queries`) it is nearest to.

    ``row`` is its row in the index, or its sentence number in a context the question came with.
    ``distance`` is the exact L2 distance to that query, ``score`` what the evidence was ranked by
    (`fusion`), ``retriever`` the names of those that found it, joined by ``+``.
    """

    article_id: str
    title: str
    row: int
    text: str
    distance: float
    query: str
    score: float
    retriever: str


class Snippet(NamedTuple):
    """A piece of one article: consecutive passages.

    ``title`` is empty if contexts are made without titles. ``score`` is that of its best passage, as in
    `Evidence`; ``rows`` are its passages' rows in the index, or sentence numbers of an own context. Both
    are unknown (``None``, empty) if a file of an earlier version has only the text.
    """

    title: str
    text: str
    score: float | None = None
    rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        """The text that a model reads."""
        return f"{self.title}: {self.text}" if self.title else self.text


class Context(NamedTuple):
    """``snippets`` fit the token budget together; both they and ``evidence`` are sorted best first."""

    snippets: tuple[Snippet, ...]
    evidence: tuple[Evidence, ...]

    @property
    def text(self) -> str:
        """All snippets, one per line."""
        return joined(self.snippets)


def joined(snippets: Iterable[Snippet]) -> str:
    """Snippets as the text in a model's input, one below the other."""
    return "\n".join(map(str, snippets))


def lines_as_snippets(text: str) -> tuple[Snippet, ...]:
    """Each line of a text as a snippet, as earlier versions stored them."""
    return tuple(Snippet("", line) for line in text.split("\n")) if text else ()


def paragraphs_as_snippets(text: str) -> tuple[Snippet, ...]:
    """The paragraphs of a text that came with its question: only blank lines separate them.

    ``joined`` restores the exact text: blank lines stay at the end of the paragraph before them.
    """
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    cuts = [0, *(blank.end() for blank in _BLANK_LINES.finditer(text, start, end))]
    parts = [text[start:end] for start, end in zip(cuts, [*(cut - 1 for cut in cuts[1:]), len(text)])]
    return tuple(Snippet("", part) for part in parts if part)


# A line end and one or more blank lines, before a line that has text.
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+(?=[^\S\n]*\S)")


class QuestionContexts(NamedTuple):
    """The contexts of one question: one for all options, or one per option (absent: ``None``)."""

    shared: Context | None
    by_option: tuple[Context | None, ...]

    def of(self, option: int) -> Context | None:
        """The context by which an option is judged."""
        return self.by_option[option] if self.by_option else self.shared

    def evidence(self) -> list[Evidence]:
        """All evidence of the question, each passage once, the best first."""
        contexts = self.by_option or (self.shared,)
        nearest: dict[tuple[bool, int], Evidence] = {}
        for e in sorted((e for c in contexts if c for e in c.evidence), key=lambda e: -e.score):
            nearest.setdefault((e.article_id == OWN, e.row), e)
        return list(nearest.values())


_SNIPPET = pa.struct(
    [
        ("title", pa.string()),
        ("text", pa.string()),
        ("score", pa.float64()),
        ("rows", pa.list_(pa.int64())),
    ]
)
_EVIDENCE = pa.struct(
    [
        ("article_id", pa.string()),
        ("title", pa.string()),
        ("row", pa.int64()),
        ("text", pa.string()),
        ("distance", pa.float64()),
        ("query", pa.string()),
        ("score", pa.float64()),
        ("retriever", pa.string()),
    ]
)


def write_contexts(
    path: str | Path,
    questions: Questions,
    contexts: Sequence[QuestionContexts],
    notes: Mapping[str, Any],
) -> None:
    """Write ``id, question, option, context, snippets, evidence`` rows as a complete Parquet file.

    ``context`` is the text of the snippets, for people and other programs; rankers read the snippets.

    ``notes`` go into its metadata; ``question`` is a hash of prompt and options, because ids of train
    and test are often the same numbers; ``option`` is null for the context of a whole question.
    Ids keep their type if they share one.
    """
    rows = [
        (key, fingerprint, letter, context.text, *([part._asdict() for part in parts] for parts in context))
        for key, fingerprint, each in zip(questions.ids, questions.fingerprints(), contexts)
        for letter, context in _lettered(each)
    ]
    columns = list(zip(*rows)) or [()] * 6
    table = pa.table(
        {
            "id": id_array(columns[0]),
            "question": pa.array(columns[1], pa.string()),
            "option": pa.array(columns[2], pa.string()),
            "context": pa.array(columns[3], pa.string()),
            "snippets": pa.array(columns[4], pa.list_(_SNIPPET)),
            "evidence": pa.array(columns[5], pa.list_(_EVIDENCE)),
        }
    ).replace_schema_metadata({NOTES: json.dumps(notes, sort_keys=True)})
    with whole_file(path) as aside:
        pq.write_table(table, aside, compression="zstd")


def _lettered(contexts: QuestionContexts) -> list[tuple[str | None, Context]]:
    if contexts.shared is not None:
        return [(None, contexts.shared)]
    return [(LETTERS[i], context) for i, context in enumerate(contexts.by_option) if context is not None]


def read_notes(path: str | Path) -> dict[str, Any] | None:
    """The notes a contexts file was written with; ``None`` if there is no such file."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        return dict(json.loads(metadata[NOTES]))
    except (OSError, pa.ArrowInvalid, KeyError, ValueError):
        return None


def read_contexts(path: str | Path, questions: Questions) -> list[QuestionContexts]:
    """Read a contexts file for these questions, in their order.

    Raises
    ------
    InputError : a missing column, two rows for one question or option, no row for a question.
    ArtifactError : a row of another question with this id, or for an option it does not have.
    """
    return contexts_of_rows(enumerate(read_rows(path), 1), questions, path)


def require_context_columns(names: Collection[str], path: str | Path) -> None:
    """Raise ``InputError`` if a contexts file lacks a column."""
    if missing := {"id", "question", "option", "context", "evidence"} - set(names):
        raise InputError(f"column {min(missing)!r} is missing", where=path, cure=_MAKE)


def contexts_of_rows(
    rows: Iterable[tuple[int, Mapping[str, Any]]], questions: Questions, path: str | Path
) -> list[QuestionContexts]:
    """`read_contexts` from rows of the file, each with its number; rows of other questions are left out."""
    contexts: dict[tuple[str, str | None], Context] = {}
    fingerprints = dict(zip(map(id_text, questions.ids), questions.fingerprints()))
    for number, row in rows:
        require_context_columns(row, path)
        # An empty cell of CSV is the null of other formats.
        key = (id_text(row["id"]), text_of(row["option"], f"{path}, row {number}, column option") or None)
        if fingerprints.get(key[0], row["question"]) != row["question"]:
            raise ArtifactError(
                f"the context was made for another question with the id {key[0]!r}",
                where=f"{path}, row {number}",
                cure=_MAKE,
            )
        if key in contexts:
            raise InputError(f"two rows for the question {key[0]!r}", where=f"{path}, row {number}")
        contexts[key] = _context(row, f"{path}, row {number}")
    return [
        _of_question(contexts, id_text(key), options, path)
        for key, options in zip(questions.ids, questions.options)
    ]


def _context(row: Mapping[str, Any], where: str) -> Context:
    """The context of one row; files of earlier versions have its text and no snippets."""
    try:
        evidence = tuple(Evidence(**e) for e in row["evidence"] or [])
    except TypeError:
        raise InputError("column 'evidence' does not hold passages", where=where, cure=_MAKE) from None
    if (cells := row.get("snippets")) in (None, ""):
        text = text_of(row["context"], f"{where}, column context") or ""
        own = bool(evidence) and all(e.article_id == OWN for e in evidence)
        return Context(paragraphs_as_snippets(text) if own else lines_as_snippets(text), evidence)
    try:
        snippets = tuple(Snippet(**{**cell, "rows": tuple(cell["rows"] or ())}) for cell in cells)
        if not all(isinstance(each.text, str) for each in snippets):
            raise TypeError("a snippet without a text")
    except (TypeError, KeyError):
        raise InputError("column 'snippets' does not hold snippets", where=where, cure=_MAKE) from None
    return Context(snippets, evidence)


def _of_question(
    contexts: Mapping[tuple[str, str | None], Context],
    key: str,
    options: Sequence[str | None],
    path: str | Path,
) -> QuestionContexts:
    if (key, None) in contexts:
        return QuestionContexts(contexts[key, None], ())
    present = {letter for letter, option in zip(LETTERS, options) if option is not None}
    if extra := [letter for letter in LETTERS if letter not in present and (key, letter) in contexts]:
        raise ArtifactError(
            f"a context for the option {extra[0]}, which the question {key!r} does not have",
            where=path, cure=_MAKE,
        )  # fmt: skip
    by_option = tuple(contexts.get((key, letter)) for letter in LETTERS[: len(options)])
    missing = any(option is not None and context is None for option, context in zip(options, by_option))
    if missing or not by_option:
        raise no_context(key, path)
    return QuestionContexts(None, by_option)


def no_context(key: str, path: str | Path) -> ArtifactError:
    """The error of a file that lacks a question."""
    return ArtifactError(f"no context for the question {key!r}", where=path, cure=_MAKE)


_MAKE = "create it for these questions: python -m inference contexts --questions Q --index I --out C"
