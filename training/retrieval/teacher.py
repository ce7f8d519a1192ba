"""Soft labels: a teacher's scores, from a table or a cross-encoder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from kaggle_rag.data.cells import text_of
from kaggle_rag.data.columns import require_columns
from kaggle_rag.data.questions import id_text
from kaggle_rag.data.tables import names_a_table, read_rows
from kaggle_rag.retrieval.crossencoder import CrossEncoder, Scores
from kaggle_rag.runtime.console import bar, say
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.words import counted
from kaggle_rag.text.normalise import same
from training.retrieval.columns import Labels, pairs_of
from training.retrieval.mining import Example


def soft_labels(teacher: str, examples: Sequence[Example], device: str | None) -> Labels:
    """Scores of the examples' pairs from a table (``id, passage, score``) or a cross-encoder.

    Scores are probabilities: those of a table must be in 0..1, those of a model that returns logits are
    put through a sigmoid. Pairs that a table lacks keep their hard labels.

    Raises
    ------
    InputError : a table that lacks a column, has a score that is not a probability, or matches no pair.
    CheckpointError : no such model.
    """
    if names_a_table(teacher):
        return _of_table(Path(teacher), examples)
    pairs = [pair for example in examples for pair in pairs_of(example)]
    model = CrossEncoder(teacher, device=device)
    with bar("teacher", len(pairs)) as counter:
        scores = model.scores([q for q, _ in pairs], [p for _, p in pairs], on_rows=counter.update)
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
        scores[id_text(row["id"]), same(passage)] = probability(row["score"], f"{where}, column score")
    pairs = [(example.id, pair) for example in examples for pair in pairs_of(example)]
    labels = {pair: scores[key, same(pair[1])] for key, pair in pairs if (key, same(pair[1])) in scores}
    if not labels:
        raise _no_match(path, scores.keys(), pairs)
    distinct = len({pair for _, pair in pairs})
    if len(labels) < distinct:
        say(
            f"note: {path} has scores of {len(labels):,} of {counted(distinct, 'pair')} of a query and a "
            "passage; the others are learnt as right or wrong"
        )
    return labels


def _no_match(
    path: Path, scored: Collection[tuple[str, str]], pairs: Sequence[tuple[str, tuple[str, str]]]
) -> InputError:
    """Which half of the pairs does not match: the questions, or the passages of those that do."""
    asked = {key for key, _ in pairs}
    known = {key for key, _ in scored} & asked
    if not known:
        has, key = next(iter(scored), ("none", ""))[0], next(iter(asked), "none")
        return InputError(
            f"none of its {counted(len({key for key, _ in scored}), 'id')} (such as {has!r}) is among the "
            f"ids of the {counted(len(asked), 'question')} to train on (such as {key!r})", where=path,
            expected="the ids of QUESTIONS", cure="use a table that was made of this questions file",
        )  # fmt: skip
    own = next(text for key, text in scored if key in known)
    read = next(pair[1] for key, pair in pairs if key in known)
    return InputError(
        f"it scores {len(known):,} of the {counted(len(asked), 'question')} to train on, but none of "
        f"the passages that they are trained with: it has {_start(own)!r}, training has {_start(read)!r}",
        where=path, expected="the texts of the passages themselves",
        cure="search the passages that were scored (passages or index), or give the table as --supported "
        "instead of --teacher",
    )  # fmt: skip


def _start(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[:most].rstrip() + " ..."


def probability(cell: object, where: str) -> float:
    """A cell from 0 to 1; raise ``InputError`` with ``where`` it is for any other."""
    try:
        value = float(str(cell))
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise InputError(
            f"the score {cell!r} is not a probability", where=where, expected="0 to 1"
        )
    return value
