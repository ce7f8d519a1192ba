"""Who is learnt from and who is held out: group folds, files to keep away from, rows to drop."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.difficulty import read_suspects, sample_weights
from kaggle_rag.evaluation.duplicates import find_duplicates, find_shared
from kaggle_rag.evaluation.fold_table import articles_of, read_folds
from kaggle_rag.evaluation.folds import group, group_folds
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import InputError
from training.rankers.dataset import RankerDataset
from training.rankers.settings import RankerRun

Mask = npt.NDArray[np.bool_]


def split_lessons(settings: RankerRun) -> tuple[RankerDataset, RankerDataset]:
    """Questions to learn from, and questions held out.

    The fold that is set aside is in neither: what the best checkpoint is chosen by must not be what
    the ranker is judged by. Excluded and suspected rows are only kept from learning: the questions held
    out stay the same whatever is dropped, so that runs with and without a list can be compared.

    Raises
    ------
    KitError : a file that does not fit the questions; nothing is left to learn from.
    """
    dataset = RankerDataset.read(settings.questions, settings.contexts_file, settings.limit)
    weights = _weights(dataset.questions, settings)
    dataset = dataclasses.replace(dataset, weights=None if weights.min() == 1 else weights)
    if settings.folds is not None:
        dataset = dataset.take(np.flatnonzero(_others(dataset.questions, settings)))
    if settings.validation:
        held = RankerDataset.read(settings.validation, settings.validation_contexts)
        out = np.zeros(len(dataset), dtype=bool)
        _warn_of_copies(dataset.questions, held.questions)
    else:
        out = _share(dataset, settings.held_out, settings.seed)
        held = dataset.take(np.flatnonzero(out))
    learnt = dataset.take(np.flatnonzero(~out & _wanted(dataset, settings)))
    if not len(learnt):
        raise InputError(
            "no question is left to learn from", where=settings.questions,
            cure="look at exclude, drop, folds and held_out: together they take all of them",
        )  # fmt: skip
    return learnt, held


def _share(dataset: RankerDataset, held_out: float, seed: int) -> Mask:
    """A share of the questions, near-duplicates and questions about one article on one side, ``(n,)``."""
    questions = dataset.questions
    if not held_out:
        return np.zeros(len(dataset), dtype=bool)
    count = max(2, round(1 / held_out))
    most = max(1, len(dataset) // count)
    groups = group(len(dataset), find_duplicates(questions), articles_of(dataset.contexts), most=most)
    if (apart := len(np.unique(groups.labels))) < 2:
        raise InputError(
            f"none of the {len(dataset):,} questions can be held out: all are near-duplicates of each other, "
            "or about one article",
            where="held_out",
            cure="give validation (another file), or held_out: 0",
        )
    # Of a few groups one is the least that can be held out.
    count = min(count, apart)
    folds = group_folds(groups.labels, questions.answers, count, seed)
    # Where one large group fills a fold alone, it is not that one.
    sizes = np.bincount(folds, minlength=count)
    return np.asarray(folds == np.argmin(np.abs(sizes - held_out * len(dataset))), dtype=np.bool_)


def _others(questions: Questions, settings: RankerRun) -> Mask:
    """The questions outside of the fold that is set aside."""
    assert settings.folds is not None and settings.fold is not None
    folds = read_folds(settings.folds, questions)
    aside = folds == settings.fold
    if not aside.any():
        raise InputError(
            f"no question stands in fold {settings.fold}", where=settings.folds,
            expected="one of " + ", ".join(map(str, np.unique(folds))),
        )  # fmt: skip
    say(f"fold {settings.fold}: its {int(aside.sum()):,} questions are set aside")
    return np.asarray(~aside, dtype=np.bool_)


def _weights(questions: Questions, settings: RankerRun) -> npt.NDArray[np.float64]:
    """How much each question counts, 0 where it is dropped."""
    if settings.drop is None:
        return np.ones(len(questions))
    weights = sample_weights(len(questions), read_suspects(settings.drop, questions), settings.drop_weight)
    count = int((weights < 1).sum())
    done = f"count for {settings.drop_weight}" if settings.drop_weight else "are dropped"
    say(f"{settings.drop}: {count:,} questions (label errors, contradictions) {done}; other rows of it stay")
    return weights


def _wanted(dataset: RankerDataset, settings: RankerRun) -> Mask:
    """Questions that may be learnt from: not dropped, and no near-duplicate in a file of ``exclude``."""
    wanted = np.ones(len(dataset), dtype=bool)
    for path in settings.exclude:
        shared = sorted({pair.left for pair in find_shared(dataset.questions, Questions.read(path))})
        say(f"{path}: {len(shared):,} questions are near-duplicates of its rows, and not learnt from")
        wanted[shared] = False
    if dataset.weights is not None:
        wanted &= dataset.weights > 0
    return wanted


def _warn_of_copies(learnt: Questions, held: Questions) -> None:
    copies = {pair.right for pair in find_shared(learnt, held)}
    if copies:
        say(
            f"note: {len(copies):,} of {len(held):,} validation questions are near-duplicates of questions "
            "that are learnt from; name the file in exclude too, and those are left out"
        )
