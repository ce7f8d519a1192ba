"""Soft labels: a teacher's scores, out of a table or by a cross-encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kaggle_rag.data.cells import text_of
from kaggle_rag.data.columns import require_columns
from kaggle_rag.data.questions import id_text
from kaggle_rag.data.tables import READERS, read_rows
from kaggle_rag.retrieval.crossencoder import CrossEncoder, Scores
from kaggle_rag.runtime.console import bar
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.text.normalise import same
from training.retrieval.columns import Labels, pairs_of
from training.retrieval.mining import Example


def soft_labels(teacher: str, examples: Sequence[Example], device: str | None) -> Labels:
    """Scores of the examples' pairs by a table (``id, passage, score``) or a cross-encoder.

    Scores are probabilities: those of a table must lie in 0..1, those of a model that gives logits are
    put through a sigmoid. Of a table, pairs it lacks keep their hard labels.

    Raises
    ------
    InputError : a table that lacks a column, has a score that is no probability, or fits no pair.
    CheckpointError : no such model.
    """
    if Path(teacher).suffix.lower() in READERS:
        return _of_table(Path(teacher), examples)
    pairs = [pair for example in examples for pair in pairs_of(example)]
    model = CrossEncoder(teacher, device=device)
    with bar("teacher", len(pairs)) as shown:
        scores = model.scores([q for q, _ in pairs], [p for _, p in pairs], on_rows=shown.update)
    return dict(zip(pairs, map(float, _probabilities(scores))))


def _probabilities(scores: Scores) -> Scores:
    inside = scores.min(initial=0) >= 0 and scores.max(initial=1) <= 1
    return scores if inside else np.asarray(1 / (1 + np.exp(-scores)), dtype=np.float32)


def _of_table(path: Path, examples: Sequence[Example]) -> Labels:
    scores = {}
    for number, row in enumerate(read_rows(path), 1):
        where = f"{path}, row {number}"
        require_columns(row, ("id", "passage", "score"), where, "id, passage, score")
        passage = text_of(row["passage"], f"{where}, column passage") or ""
        scores[id_text(row["id"]), same(passage)] = _probability(row["score"], where)
    found = {
        pair: scores[example.id, same(pair[1])]
        for example in examples
        for pair in pairs_of(example)
        if (example.id, same(pair[1])) in scores
    }
    if not found:
        raise InputError(
            "no score is of a question and a passage that are learnt from",
            where=path,
            expected="ids of QUESTIONS and the texts of the passages",
        )
    return found


def _probability(cell: object, where: str) -> float:
    try:
        value = float(str(cell))
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise InputError(
            f"the score {cell!r} is no probability", where=f"{where}, column score", expected="0 to 1"
        )
    return value
