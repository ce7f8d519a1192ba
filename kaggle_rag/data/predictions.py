"""Probabilities of questions as a file, with their rankers, folds and right answers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import LETTERS, NO_ANSWER, Questions, id_text
from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.files import whole_file

_NOTES = b"kaggle_rag"
_FORMAT = "kaggle-rag predictions 1"


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Rankers' probabilities for ``n`` questions with up to ``k`` options.

    Attributes
    ----------
    ids, marks : ids as text, and the questions' fingerprints.
    folds, answers : ``(n,)`` int64; the column of the right option, or -1.
    present : ``(n, k)`` bool: which options exist.
    tables : by ranker, ``(n, k)`` float32; absent options have 0, questions without an answer NaN.
    notes : how the probabilities were made.
    """

    ids: tuple[str, ...]
    marks: tuple[str, ...]
    folds: npt.NDArray[np.int64]
    answers: npt.NDArray[np.int64]
    present: npt.NDArray[np.bool_]
    tables: Mapping[str, Probabilities]
    notes: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        questions: Questions,
        folds: npt.NDArray[np.int64],
        tables: Mapping[str, Probabilities],
        notes: Mapping[str, Any],
    ) -> Predictions:
        ids = tuple(map(id_text, questions.ids))
        marks = tuple(questions.fingerprints())
        return cls(ids, marks, folds, questions.answers, questions.present, tables, notes)

    def write(self, path: Path) -> None:
        """Write ``id, question, fold, answer, options`` and a column per ranker and letter (``name.A``)."""
        columns: dict[str, Any] = {
            "id": pa.array(self.ids, pa.string()),
            "question": pa.array(self.marks, pa.string()),
            "fold": self.folds,
            "answer": pa.array([None if a == NO_ANSWER else LETTERS[a] for a in self.answers], pa.string()),
        }
        letters = np.array(list(LETTERS[: self.present.shape[1]]))
        columns["options"] = pa.array(["".join(letters[row]) for row in self.present], pa.string())
        for name, table in self.tables.items():
            columns |= {f"{name}.{LETTERS[at]}": np.float32(table[:, at]) for at in range(table.shape[1])}
        metadata = json.dumps({"format": _FORMAT, "rankers": list(self.tables), "notes": self.notes})
        with whole_file(path) as aside:
            pq.write_table(pa.table(columns).replace_schema_metadata({_NOTES: metadata}), aside)

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read what `write` wrote.

        Raises
        ------
        ArtifactError : the file is missing, damaged, or something else.
        """
        try:
            table = pq.read_table(path)
            metadata = json.loads((table.schema.metadata or {})[_NOTES])
            if metadata["format"] != _FORMAT:
                raise ValueError(metadata["format"])
            columns = {name: table[name].to_numpy() for name in table.column_names}
            tables = {name: _group(columns, name) for name in metadata["rankers"]}
            return cls(
                tuple(columns["id"]), tuple(columns["question"]), columns["fold"].astype(np.int64),
                np.array([NO_ANSWER if a is None else LETTERS.index(a) for a in columns["answer"]]),
                _present(columns, tables), tables, metadata["notes"],
            )  # fmt: skip
        except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                "not a predictions file of this kit, or damaged", where=path,
                expected="a file that python -m inference submit or python -m training cross-validate wrote",
                cure="rerun that command: it resumes where it stopped",
            ) from error  # fmt: skip


def _present(
    columns: Mapping[str, npt.NDArray[Any]], tables: Mapping[str, Probabilities]
) -> npt.NDArray[np.bool_]:
    if "options" not in columns:
        # The version before wrote none: an option exists if any ranker gave it something.
        given = np.stack([np.nan_to_num(table) > 0 for table in tables.values()])
        return np.asarray(given.any(axis=0))
    width = max(table.shape[1] for table in tables.values())
    return np.array([[letter in own for letter in LETTERS[:width]] for own in columns["options"]], dtype=bool)


def _group(columns: Mapping[str, npt.NDArray[Any]], name: str) -> Probabilities:
    letters = [letter for letter in LETTERS if f"{name}.{letter}" in columns]
    return np.stack([columns[f"{name}.{letter}"] for letter in letters], axis=1).astype(np.float32)
