"""Contexts files larger than the memory: joined from parts, and read a few questions at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kaggle_rag.data.contexts import (
    NOTES,
    QuestionContexts,
    contexts_of_rows,
    no_context,
    require_context_columns,
)
from kaggle_rag.data.question_files import id_array
from kaggle_rag.data.questions import Questions, id_text
from kaggle_rag.data.tables import Row, column_names, read_rows
from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.files import whole_file

# Rows that are compressed together: some tens of megabytes in memory.
_GROUP = 4_096
Rows = npt.NDArray[np.int64]


def join_contexts(
    path: str | Path, questions: Questions, parts: Iterable[tuple[range, Path]], notes: Mapping[str, Any]
) -> None:
    """Join contexts files of consecutive questions into one, as `write_contexts` would write it.

    Parameters
    ----------
    parts : the questions' rows and the file of each part, in order; one part at a time is in memory.
    """
    # A part cannot know the type that the ids of all questions share.
    ids, writer = id_array(questions.ids), None
    metadata = {NOTES: json.dumps(notes, sort_keys=True)}
    with whole_file(path) as aside:
        try:
            for table in _groups(_with_ids(part, questions, rows, ids) for rows, part in parts):
                table = table.replace_schema_metadata(metadata)
                writer = writer or pq.ParquetWriter(aside, table.schema, compression="zstd")
                writer.write_table(table, row_group_size=_GROUP)
        finally:
            if writer:
                writer.close()


def _with_ids(part: Path, questions: Questions, rows: range, ids: pa.Array) -> pa.Table:
    """The table of a part, with ids of the type that they have in the whole file."""
    row_of = {id_text(questions.ids[row]): row for row in rows}
    try:
        table = pq.read_table(part)
        taken = [row_of[id_text(key)] for key in table["id"].to_pylist()]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise ArtifactError(
            "contexts of other questions, or damaged", where=part, cure="remove this file and rerun"
        ) from error
    if lacking := sorted({*rows} - {*taken}):
        raise no_context(id_text(questions.ids[lacking[0]]), part)
    return table.set_column(table.schema.get_field_index("id"), "id", ids.take(pa.array(taken)))


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of a group each; the last one may be smaller."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(each.num_rows for each in held) >= _GROUP:
            whole = pa.concat_tables(held)
            full = whole.num_rows - whole.num_rows % _GROUP
            yield whole.slice(0, full)
            held = [whole.slice(full)] if full < whole.num_rows else []
    if held:
        yield pa.concat_tables(held)


class Span(NamedTuple):
    """Questions that follow each other in a contexts file.

    Attributes
    ----------
    start : place of the first one in the file's order.
    rows : of the questions, ``(m,)``.
    contexts : of each of them.
    """

    start: int
    rows: Rows
    contexts: list[QuestionContexts]


class ContextStream:
    """The contexts of questions, read from a file of which a few are in memory at a time.

    Parameters
    ----------
    size : questions of a span; the last one has fewer.

    Attributes
    ----------
    order : ``(n,)``, rows of the questions as the file ends with them, which is usually their own order.

    Raises
    ------
    InputError, ArtifactError : a missing column, or no row for a question.
    """

    def __init__(self, path: Path, questions: Questions, size: int) -> None:
        self.path, self.questions, self.size = path, questions, size
        require_context_columns(column_names(path), path)
        self._row_of = {id_text(key): row for row, key in enumerate(questions.ids)}
        last = np.full(len(questions), -1, dtype=np.int64)
        for number, cells in enumerate(read_rows(path, ("id",)), 1):
            row = self._row_of.get(id_text(cells.get("id")))
            if row is not None:
                last[row] = number
        self.order: Rows = np.argsort(last, kind="stable")
        if last[self.order[0]] < 0:
            raise no_context(id_text(questions.ids[self.order[0]]), path)
        starts = range(0, len(questions), size)
        ends = last[self.order[[min(start + size, len(questions)) - 1 for start in starts]]]
        # By the number of the row of the file that completes it.
        self._complete = dict(zip(ends.tolist(), starts))

    def spans(self, skip: Collection[int] = ()) -> Iterator[Span]:
        """The spans in order, except those that start at ``skip``.

        Raises
        ------
        InputError, ArtifactError : as `kaggle_rag.data.contexts.read_contexts` does.
        """
        place = np.empty_like(self.order)
        place[self.order] = np.arange(len(self.order))
        held: dict[int, list[tuple[int, Row]]] = {}
        for number, cells in enumerate(read_rows(self.path), 1):
            row = self._row_of.get(id_text(cells.get("id")))
            start = None if row is None else int(place[row]) // self.size * self.size
            if start is not None and start not in skip:
                held.setdefault(start, []).append((number, cells))
            done = self._complete.get(number)
            if done is not None and done not in skip:
                rows = self.order[done : done + self.size]
                found = contexts_of_rows(held.pop(done), self.questions.take(rows), self.path)
                yield Span(done, rows, found)
