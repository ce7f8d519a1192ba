"""Learn from a teacher's probabilities and vectors beside the right answers.

Sources: Hinton et al. 2015, Distilling the knowledge in a neural network, https://arxiv.org/abs/1503.02531;
Sanh et al. 2019, DistilBERT, https://arxiv.org/abs/1910.01108, section 2 (the cosine of hidden vectors).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions, id_text
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.words import counted

# What a cross-validation calls its mix unless its notes say otherwise, as those of older versions do not.
_MIX = "blend"
_TINY = 1e-12


def read_teacher(path: Path, name: str, questions: Questions) -> Probabilities:
    """A teacher's probabilities of these questions, ``(n, k)``; zeros where it did not answer.

    Parameters
    ----------
    path : a predictions file of submit or of a cross-validation.
    name : of the table in it; empty: that of the mix, or the mean of all.

    Raises
    ------
    ArtifactError : this is no such file.
    InputError : it has no such table, or answers none of the questions.
    """
    stored = Predictions.read(path)
    table = _table(stored, name, path)
    row_of = {pair: row for row, pair in enumerate(zip(stored.ids, stored.marks))}
    pairs = zip(map(id_text, questions.ids), questions.fingerprints())
    rows = np.array([row_of.get(pair, -1) for pair in pairs], dtype=np.int64)
    wide = min(table.shape[1], questions.width)
    found = np.zeros((len(questions), questions.width), dtype=np.float32)
    found[rows >= 0, :wide] = np.nan_to_num(table[rows[rows >= 0], :wide])
    answered = int((found.sum(axis=1) > 0).sum())
    if not answered:
        raise InputError(
            "this teacher answers none of the questions", where=path,
            expected="a predictions file of the same questions",
            cure="make one: python -m inference submit, or cross-validate, with these questions",
        )  # fmt: skip
    if answered < len(questions):
        asked = counted(len(questions), "question")
        say(f"note: the teacher answers {answered:,} of {asked}; the others have none")
    return found


def _table(stored: Predictions, name: str, path: Path) -> Probabilities:
    if name and name not in stored.tables:
        raise InputError(
            f"no predictions of {name!r}", where=path, expected="one of " + ", ".join(stored.tables),
            cure="set teacher_name to one of them, or leave it out",
        )  # fmt: skip
    mix = name or str(stored.notes.get("mix", _MIX))
    chosen = [mix] if mix in stored.tables else [*stored.tables]
    return np.asarray(np.mean([stored.tables[each] for each in chosen], axis=0), dtype=np.float32)


def divergence(logits: torch.Tensor, batch: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
    """T² KL(teacher || student), both at temperature T: the mean over all questions of the batch.

    A question that the teacher did not answer adds nothing.

    Parameters
    ----------
    batch : with the teacher's probabilities as ``soft`` ``(b, k)``, zeros in the rows of other questions.
    """
    soft, present = batch["soft"], batch["present"]
    teacher = (soft.clamp(min=_TINY).log() / temperature).masked_fill(~present, -torch.inf).log_softmax(1)
    student = (logits / temperature).masked_fill(~present, -torch.inf).log_softmax(1)
    terms = (teacher.exp() * (teacher - student)).masked_fill(~present, 0.0).sum(1)
    weights = batch.get("weights", torch.ones_like(terms)) * (soft.sum(1) > 0)
    return temperature**2 * (terms * weights).sum() / max(1, len(terms))


def cosine_distance(vectors: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """1 - cos(student, teacher): the mean over a question's options, then over all questions of the batch.

    An option without a vector of the teacher's adds nothing to its question's mean, and a question
    without any adds nothing.

    Parameters
    ----------
    vectors : the student's, ``(b, k, d)``.
    batch : with the teacher's as ``teacher_vectors`` ``(b, k, d)``, zeros where it has none.
    """
    teacher = batch["teacher_vectors"].float()
    known = batch["present"] & teacher.any(-1)
    distances = (1 - F.cosine_similarity(vectors, teacher, dim=-1)).masked_fill(~known, 0.0)
    terms = distances.sum(1) / known.sum(1).clamp(min=1)
    return (terms * batch.get("weights", torch.ones_like(terms))).sum() / max(1, len(terms))


def with_lighter_labels(batch: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """The batch with the weight of its labels lowered by ``share`` where the teacher answered."""
    answered = (batch["soft"].sum(1) > 0).float()
    weights = batch.get("weights", torch.ones_like(answered))
    return {**batch, "weights": weights * (1 - share * answered)}
