"""The questions to choose from: several tables as one, what is left out of it, and labels that disagree."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.cells import text_of
from kaggle_rag.data.questions import Questions, id_text, require_answers
from kaggle_rag.data.tables import Row, column_names, read_rows
from kaggle_rag.evaluation.duplicates import REASONS, find_duplicates
from kaggle_rag.evaluation.leaks import Leak, leak_report, shown
from kaggle_rag.runtime.errors import InputError
from training.loop.checks import require_distinct

Rows = npt.NDArray[np.int64]
# Reasons of pairs that are one question.
_COPIES = ("same", "swapped")


class Disagreement(NamedTuple):
    """A question of the pool whose label another row, or a specification, contradicts.

    Attributes
    ----------
    row, other_row : of the pool; -1 is that of a specification.
    id, other_id, text, other_text : of both.
    reason : a key of `kaggle_rag.evaluation.duplicates.REASONS`.
    """

    row: int
    other_row: int
    id: str
    other_id: str
    reason: str
    similarity: float
    text: str
    other_text: str

    def lines(self) -> list[str]:
        return [
            f"  {self.id} and {self.other_id}: {REASONS[self.reason]}",
            f"    {self.text}",
            f"    {self.other_text}",
        ]


@dataclasses.dataclass(frozen=True)
class Pool:
    """``n`` questions with answers, of one table or several.

    Attributes
    ----------
    paths, sizes : the tables, and how many questions each has.
    questions : all of them; with several tables the ids are ``TABLE/ID``, as ``training mix`` writes them.
    """

    paths: tuple[Path, ...]
    sizes: tuple[int, ...]
    questions: Questions

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Pool:
        """Read the tables.

        Raises
        ------
        ConfigError : two tables of one name.
        InputError : their columns differ; a question has no answer.
        """
        require_distinct([path.stem for path in paths], "tables")
        columns = [column_names(path) for path in paths]
        for path, names in zip(paths, columns):
            if unlike := set(names) ^ set(columns[0]):
                there = min(unlike) in names
                raise InputError(
                    f"column {min(unlike)!r} is {'not ' if there else ''}in {paths[0]}, and here it is"
                    f"{'' if there else ' not'}",
                    where=path, expected=f"tables with the same columns: {', '.join(columns[0])}",
                    cure="make one table of them first: python -m training mix",
                )  # fmt: skip
        tables = [Questions.read(path) for path in paths]
        for path, table in zip(paths, tables):
            try:
                require_answers(table.answers)
            except InputError as error:
                raise InputError(
                    error.what, where=f"{path}, {error.where}", expected=error.expected, cure=error.cure
                ) from None
        return cls(tuple(paths), tuple(map(len, tables)), _joined(paths, tables))

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def names(self) -> list[str]:
        return [path.stem for path in self.paths]

    def counts(self, rows: Rows) -> dict[str, int]:
        """How many of the rows each table has."""
        table_of = np.repeat(np.arange(len(self.sizes)), self.sizes)
        return dict(zip(self.names, np.bincount(table_of[rows], minlength=len(self.sizes)).tolist()))

    def id(self, row: int) -> str:
        return id_text(self.questions.ids[row])

    def write(self, path: Path, rows: Rows) -> None:
        """Write these rows, in their order, with all columns of their tables."""
        place = {int(row): number for number, row in enumerate(rows)}
        kept: list[Row] = [{}] * len(rows)
        for row, cells in enumerate(self._cells()):
            if row in place:
                kept[place[row]] = {**cells, "id": self.id(row)}
        columns = column_names(self.paths[0])
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for cells in kept:
                writer.writerow([text_of(cells.get(name), f"column {name}") for name in columns])

    def _cells(self) -> Iterator[Row]:
        for path in self.paths:
            yield from read_rows(path)


def _joined(paths: Sequence[Path], tables: Sequence[Questions]) -> Questions:
    if len(tables) == 1:
        return tables[0]
    ids = (f"{path.stem}/{id_text(key)}" for path, table in zip(paths, tables) for key in table.ids)
    return Questions(
        tuple(ids),
        tuple(prompt for table in tables for prompt in table.prompts),
        tuple(options for table in tables for options in table.options),
        np.concatenate([table.answers for table in tables]),
        tuple(context for table in tables for context in table.contexts),
        np.concatenate([table.is_question for table in tables]),
    )


@dataclasses.dataclass(frozen=True)
class Sifted:
    """What may be chosen of a pool.

    Attributes
    ----------
    rows : those that repeat no row of another file, and no row before them.
    leaks, copies : how many repeat a row of another file; how many an earlier row of the pool.
    against_specifications, within : labels that contradict a specification's, and those of two rows.
    """

    rows: Rows
    leaks: int
    copies: int
    against_specifications: tuple[Disagreement, ...]
    within: tuple[Disagreement, ...]


def sift(pool: Pool, specifications: Mapping[str, Questions], excluded: Mapping[str, Questions]) -> Sifted:
    """Leave out near-duplicates of specifications and of excluded questions, and repeated ones.

    An example says what the test asks: to train on its copy would make every score on it worthless.
    """
    report = leak_report(pool.questions, {**excluded, **specifications})
    row_of = {pool.id(row): row for row in range(len(pool))}
    leaking = {row_of[leak.train_id] for leak in report.leaks}
    pairs = find_duplicates(pool.questions)
    kept = np.ones(len(pool), dtype=bool)
    kept[list(leaking)] = False
    for pair in sorted(pairs, key=lambda pair: (pair.right, pair.left)):
        # What is near a question that is left out, but not the same, may be far from what that one repeats.
        if kept[pair.left] or pair.reason in _COPIES:
            kept[pair.right] = False
    within = [
        Disagreement(
            pair.right, pair.left, pool.id(pair.right), pool.id(pair.left),
            pair.reason, round(pair.similarity, 4),
            shown(pool.questions, pair.right), shown(pool.questions, pair.left),
        )
        for pair in pairs if pair.contradicts
    ]  # fmt: skip
    against = [
        _with_example(leak, row_of[leak.train_id])
        for leak in report.leaks if leak.contradicts and leak.file in specifications
    ]  # fmt: skip
    copies = len(pool) - int(kept.sum()) - len(leaking)
    return Sifted(np.flatnonzero(kept), len(leaking), copies, tuple(against), tuple(within))


def _with_example(leak: Leak, row: int) -> Disagreement:
    other = f"{Path(leak.file).stem}/{leak.id}"
    return Disagreement(
        row, -1, leak.train_id, other, leak.reason, leak.similarity, leak.train_text, leak.text
    )
