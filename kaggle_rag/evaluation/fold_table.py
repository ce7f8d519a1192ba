"""The folds of a cross-validation as a file, so that each fold can be trained in its own session."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kaggle_rag.data.cells import text_of
from kaggle_rag.data.columns import require_columns
from kaggle_rag.data.contexts import OWN, QuestionContexts
from kaggle_rag.data.questions import Questions, id_text
from kaggle_rag.data.tables import read_rows
from kaggle_rag.runtime.errors import ArtifactError, InputError
from kaggle_rag.runtime.files import whole_file
from kaggle_rag.runtime.words import counted

Folds = npt.NDArray[np.int64]


def articles_of(contexts: Sequence[QuestionContexts] | None) -> list[str | None] | None:
    """What each question is about: the article of its best evidence, or the context it came with."""
    return None if contexts is None else [_article(each) for each in contexts]


def _article(contexts: QuestionContexts) -> str | None:
    evidence = contexts.evidence()
    if not evidence:
        return None
    if evidence[0].article_id != OWN:
        return evidence[0].article_id
    return hashlib.blake2b(repr(sorted(e.text for e in evidence)).encode(), digest_size=8).hexdigest()


def write_folds(path: Path, questions: Questions, folds: Folds) -> None:
    """Write ``id, question, fold`` rows as a file; ``question`` is the hash of prompt and options."""
    ids = [id_text(key) for key in questions.ids]
    table = pa.table({"id": ids, "question": questions.fingerprints(), "fold": folds})
    with whole_file(path) as aside:
        pq.write_table(table, aside)


def read_folds(path: Path, questions: Questions) -> Folds:
    """The fold of each question, ``(n,)``, from a table with ``id`` and ``fold``.

    Raises
    ------
    InputError : a column is missing, a fold is not a number from 0, a question has none.
    ArtifactError : a row is of another question with that id.
    """
    hashes = dict(zip(map(id_text, questions.ids), questions.fingerprints()))
    fold_by_id: dict[str, int] = {}
    for number, row in enumerate(read_rows(path), 1):
        where = f"{path}, row {number}"
        require_columns(row, ("id", "fold"), path, "id and fold")
        key = id_text(row["id"])
        if row.get("question") and hashes.get(key, row["question"]) != row["question"]:
            raise ArtifactError(
                f"these are the folds of another question with the id {key!r}", where=where,
                cure="create the folds of these questions: python -m training cross-validate",
            )  # fmt: skip
        fold = text_of(row["fold"], f"{where}, column fold") or ""
        if not fold.isdecimal():
            raise InputError(f"invalid fold {row['fold']!r}", where=where, expected="a number from 0")
        if fold_by_id.setdefault(key, int(fold)) != int(fold):
            raise InputError(
                f"the question {key!r} is in two folds, {fold_by_id[key]} and {int(fold)}", where=where,
                expected="one fold a question", cure="pass the folds.parquet of one cross-validation",
            )  # fmt: skip
    if missing := [key for key in hashes if key not in fold_by_id]:
        raise InputError(
            f"{len(missing):,} of {counted(len(hashes), 'question has', 'questions have')} no fold "
            f"(id {missing[0]})", where=path,
            expected="a fold for every question",
            cure="pass the folds.parquet of a cross-validation of these questions",
        )  # fmt: skip
    return np.array([fold_by_id[key] for key in hashes], dtype=np.int64)
