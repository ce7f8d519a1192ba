"""Split questions into training and held-out ones: group folds, excluded files, rows to drop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.difficulty import read_suspects, sample_weights
from kaggle_rag.evaluation.duplicates import find_duplicates, find_shared
from kaggle_rag.evaluation.fold_table import articles_of, read_folds
from kaggle_rag.evaluation.folds import group, group_folds
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.words import counted
from training.rankers.dataset import RankerDataset
from training.rankers.distillation import read_teacher
from training.rankers.settings import RankerRun

Mask = npt.NDArray[np.bool_]
# How far one fold may be from the share that is held out; beyond it, some of so many folds are held out.
_NEAR, _FINE = 0.02, 20


def split_questions(settings: RankerRun) -> tuple[RankerDataset, RankerDataset]:
    """Training questions, and held-out questions.

    The fold that is set aside is in neither: the best checkpoint must not be chosen on the questions
    that the ranker is evaluated on. Excluded and suspect rows are dropped from training only: the
    held-out questions stay the same, so that runs with and without a list can be compared.

    Raises
    ------
    KitError : a file does not match the questions, or nothing is left to train on.
    """
    dataset = RankerDataset.read(settings.questions, settings.contexts_file, settings.limit)
    weights = _weights(settings, dataset.questions)
    dataset = dataset.supervised(weights=None if weights.min() == 1 else weights)
    if settings.teacher:
        soft = read_teacher(settings.teacher, settings.teacher_name, dataset.questions)
        dataset = dataset.supervised(soft=soft)
    if settings.folds is not None and settings.fold is not None:
        outside = _outside_fold(dataset.questions, settings.folds, settings.fold)
        dataset = dataset.take(np.flatnonzero(outside))
    if settings.validation:
        held = RankerDataset.read(settings.validation, settings.validation_contexts)
        out = np.zeros(len(dataset), dtype=bool)
        _warn_of_copies(dataset.questions, held.questions)
    else:
        out = _held_out(dataset, settings.held_out, settings.seed)
        held = dataset.take(np.flatnonzero(out))
    training = dataset.take(np.flatnonzero(~out & _trainable(dataset, settings.exclude)))
    if not len(training):
        raise InputError(
            "no questions are left to train on", where=settings.questions,
            cure="check exclude, drop, folds and held_out: together they remove every question",
        )  # fmt: skip
    return training, held


def _held_out(dataset: RankerDataset, held_out: float, seed: int) -> Mask:
    """A share of the questions, near-duplicates and questions about one article on one side, ``(n,)``."""
    questions = dataset.questions
    if not held_out:
        return np.zeros(len(dataset), dtype=bool)
    # Of a share such as 0.4, several small folds come nearer to it than one of a few large ones.
    count = max(2, round(1 / held_out))
    count = count if abs(1 / count - held_out) < _NEAR else _FINE
    most = max(1, len(dataset) // count)
    groups = group(len(dataset), find_duplicates(questions), articles_of(dataset.contexts), most=most)
    if (distinct := len(np.unique(groups.labels))) < 2:
        raise InputError(
            f"none of the {counted(len(dataset), 'question')} can be held out: all are near-duplicates of "
            "each other, or about one article",
            where="held_out",
            cure="set validation (another file), or held_out: 0",
        )
    # With few groups, one is the least that can be held out.
    count = min(count, distinct)
    folds = group_folds(groups.labels, questions.answers, count, seed)
    return np.isin(folds, _nearest(np.bincount(folds, minlength=count), held_out * len(dataset)))


def _nearest(sizes: npt.NDArray[np.int64], wanted: float) -> list[int]:
    """Folds that together have about so many questions, but not all: at each turn the one that comes nearest.

    Where one large group fills a fold by itself, that is another.
    """
    taken: list[int] = []
    while len(taken) < len(sizes) - 1:
        left = [fold for fold in range(len(sizes)) if fold not in taken]
        missing = wanted - sizes[taken].sum()
        best = min(left, key=lambda fold: abs(sizes[fold] - missing))
        if taken and abs(missing - sizes[best]) >= abs(missing):
            break
        taken.append(best)
    return taken


def _outside_fold(questions: Questions, table: Path, fold: int) -> Mask:
    """The questions outside the fold that is set aside."""
    folds = read_folds(table, questions)
    aside = folds == fold
    if not aside.any():
        raise InputError(
            f"no question is in fold {fold}", where=table,
            expected="one of " + ", ".join(map(str, np.unique(folds))),
        )  # fmt: skip
    say(f"fold {fold}: setting aside its {counted(int(aside.sum()), 'question')}")
    return np.asarray(~aside, dtype=np.bool_)


def _weights(settings: RankerRun, questions: Questions) -> npt.NDArray[np.float64]:
    """How much each question counts, 0 where it is dropped."""
    drop, weight = settings.drop, settings.drop_weight
    if drop is None:
        return np.ones(len(questions))
    # The list is of all questions of the file, whatever the limit.
    listed = read_suspects(drop, Questions.read(settings.questions) if settings.limit else questions)
    suspects = [each for each in listed if each.row < len(questions)]
    weights = sample_weights(len(questions), suspects, weight)
    count = int((weights < 1).sum())
    effect = f"get weight {weight}" if weight else "are dropped"
    say(f"{drop}: {counted(count, 'question')} (label errors, contradictions) {effect}; the others stay")
    return weights


def _trainable(dataset: RankerDataset, exclude: Sequence[Path]) -> Mask:
    """Questions to train on: not dropped, and without a near-duplicate in any ``exclude`` file."""
    trainable = np.ones(len(dataset), dtype=bool)
    for path in exclude:
        shared = sorted({pair.left for pair in find_shared(dataset.questions, Questions.read(path))})
        alike = counted(len(shared), "question is a near-duplicate", "questions are near-duplicates")
        say(f"{path}: {alike} of its rows, and not trained on")
        trainable[shared] = False
    weights = dataset.supervision.weights
    if weights is not None:
        trainable &= weights > 0
    return trainable


def _warn_of_copies(training: Questions, held: Questions) -> None:
    copies = {pair.right for pair in find_shared(training, held)}
    if copies:
        say(
            f"note: {len(copies):,} of {len(held):,} validation questions are near-duplicates of "
            "training questions; list the file in exclude too to leave those out"
        )
