"""Folds that keep together what belongs together: near-duplicates, and questions about one article."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from kaggle_rag.evaluation.duplicates import Pair
from kaggle_rag.runtime.errors import ConfigError, InputError
from kaggle_rag.runtime.words import counted

Labels = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Groups:
    """Which questions must not be separated.

    Attributes
    ----------
    labels : ``(n,)`` int64, the group of each question, numbered in order of first appearance.
    notes : what could not be kept together and why; empty if everything was.
    """

    labels: Labels
    notes: tuple[str, ...]


def group(
    rows: int,
    pairs: Iterable[Pair],
    keys: Sequence[Hashable | None] | None = None,
    *,
    most: int | None = None,
) -> Groups:
    """Connected components over near-duplicates and over questions with the same key.

    Near-duplicates are never separated. The same key is a weaker tie: a duplicate links two articles,
    and one broad article ("Physics") may be the best evidence for half of the questions. A component of
    more than ``most`` questions is therefore rebuilt from its duplicates, key by key, and a tie that
    would make a group larger than ``most`` is left out; the notes say how many questions share a key
    with a question of another group.

    Parameters
    ----------
    rows : number of questions.
    pairs : of `kaggle_rag.evaluation.duplicates.find_duplicates`.
    keys : one per question, such as the article of its best evidence; ``None`` ties to nothing.
    most : largest group that keys may form, such as ``rows // folds``; ``None``: no limit.

    Raises
    ------
    InputError : not one key per question.
    """
    if keys is not None and len(keys) != rows:
        raise InputError(f"{len(keys):,} keys for {rows:,} questions", expected="one key per question")
    links = [(pair.left, pair.right) for pair in pairs]
    copies = _components(rows, links)
    tied = _ties(keys or ())
    labels = _components(rows, links + [tie for row in tied.values() for tie in pairwise(row)])
    notes: list[str] = []
    if most is not None:
        sizes = np.bincount(labels, minlength=1)
        for large in np.flatnonzero(sizes > most):
            inside = np.flatnonzero(labels == large)
            labels[inside] = labels.max() + 1 + _regroup(inside, copies, tied, keys or (), most)
            notes += _notes(inside, labels, copies, keys or (), most)
    return Groups(_in_order(labels), tuple(notes))


def _components(rows: int, links: Sequence[tuple[int, int]]) -> Labels:
    ends = np.array(links, dtype=np.int64).reshape(-1, 2)
    graph = sparse.coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(rows, rows))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _ties(keys: Sequence[Hashable | None]) -> dict[Hashable, list[int]]:
    tied: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        if key is not None:
            tied.setdefault(key, []).append(row)
    return tied


def _regroup(
    inside: Labels,
    copies: Labels,
    tied: Mapping[Hashable, Sequence[int]],
    keys: Sequence[Hashable | None],
    most: int,
) -> Labels:
    """Groups of one large component, joined key by key (small keys first) up to ``most``."""
    parent = {int(label): int(label) for label in copies[inside]}
    size = dict(zip(*(part.tolist() for part in np.unique(copies[inside], return_counts=True))))

    def root(label: int) -> int:
        while parent[label] != label:
            parent[label] = label = parent[parent[label]]
        return label

    local_keys = {keys[row] for row in inside if keys} - {None}
    for key in sorted(local_keys, key=lambda key: (len(tied[key]), tied[key][0])):
        current = root(int(copies[tied[key][0]]))
        for row in tied[key][1:]:
            other = root(int(copies[row]))
            if other == current:
                continue
            if size[current] + size[other] > most:
                # The next group of this key starts here.
                current = other
                continue
            parent[other] = current
            size[current] += size[other]
    return np.array([root(int(label)) for label in copies[inside]], dtype=np.int64)


def _notes(
    inside: Labels, labels: Labels, copies: Labels, keys: Sequence[Hashable | None], most: int
) -> list[str]:
    parts: dict[Hashable, set[int]] = {}
    for row in inside:
        parts.setdefault(keys[row] if keys else None, set()).add(int(labels[row]))
    parts.pop(None, None)
    split = sorted(
        (key for key in parts if len(parts[key]) > 1), key=lambda key: (-len(parts[key]), str(key))
    )
    notes = []
    if split:
        apart = sum(keys[row] in split for row in inside)
        named = ", ".join(f"{key!r} ({len(parts[key])} groups)" for key in split[:3])
        notes.append(
            f"{len(inside):,} questions are linked by key, more than the {most:,} of a fold: {apart:,} of "
            f"them share a key with a question of another group: {named}{', ...' if len(split) > 3 else ''}"
        )
    copied = int(np.bincount(copies[inside]).max())
    if copied > most:
        notes.append(
            f"{copied:,} questions are near-duplicates of each other, more than the {most:,} of a fold: "
            "they stay together"
        )
    return notes


def _in_order(labels: Labels) -> Labels:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    position = np.empty(len(first), dtype=np.int64)
    position[np.argsort(first)] = np.arange(len(first))
    return np.asarray(position[inverse], dtype=np.int64)


def group_folds(groups: npt.ArrayLike, strata: npt.ArrayLike, folds: int, seed: int = 0) -> Labels:
    """A fold for each question, ``(n,)`` int64 from 0, with no group split between two.

    The largest groups are placed first, each where it leaves sizes and strata most even: a greedy form
    of the number partitioning that scikit-learn's ``GroupKFold`` (sizes) and ``StratifiedGroupKFold``
    (strata) do separately. The seed orders groups of equal size; the same inputs give the same folds.

    Parameters
    ----------
    groups : ``(n,)`` the group of each question.
    strata : ``(n,)`` what every fold should have a share of, such as the column of the right option.
    folds : at least 2.

    Raises
    ------
    ConfigError : fewer than two folds, or fewer groups than folds.
    InputError : not one group and one stratum per question.
    """
    groups, strata = np.asarray(groups), np.asarray(strata)
    if groups.shape != strata.shape or groups.ndim != 1:
        raise InputError(
            f"groups of shape {groups.shape}, strata of {strata.shape}", expected="one of each per question"
        )
    _, group_of = np.unique(groups, return_inverse=True)
    kinds, kind_of = np.unique(strata, return_inverse=True)
    number = int(group_of.max(initial=-1)) + 1
    if folds < 2 or number < folds:
        raise ConfigError(
            f"{counted(folds, 'fold')} of {counted(number, 'group')}",
            expected="at least two folds, and no more than there are groups of questions",
            cure="ask for fewer folds, or loosen what counts as a duplicate",
        )
    counts = np.zeros((number, len(kinds)), dtype=np.int64)
    np.add.at(counts, (group_of, kind_of), 1)
    return _assign(counts, folds, seed)[group_of]


def _assign(counts: Labels, folds: int, seed: int) -> Labels:
    """The fold of each group; ``counts`` are its questions by stratum, ``(groups, strata)``."""
    sizes = counts.sum(axis=1)
    shuffled = np.random.default_rng(seed).permutation(len(counts))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    # Sizes count as one more stratum, and squared shares add up the unevenness of all.
    table = np.column_stack([counts, sizes]).astype(np.float64)
    scale = 1 / np.maximum(table.sum(axis=0), 1)
    filled = np.zeros((folds, table.shape[1]))
    fold_of = np.empty(len(counts), dtype=np.int64)
    for position, row in enumerate(order):
        cost = ((2 * filled + table[row]) * table[row] * scale).sum(axis=1)
        remaining = len(order) - position
        empty = np.flatnonzero(filled[:, -1] == 0)
        # No fold may stay empty: the last groups go to folds that have none.
        candidates = empty if remaining <= len(empty) else np.arange(folds)
        chosen = candidates[np.argmin(cost[candidates])]
        fold_of[row] = chosen
        filled[chosen] += table[row]
    return fold_of


def crossing(pairs: Iterable[Pair], folds: npt.ArrayLike) -> list[Pair]:
    """The near-duplicates split between two folds: none, if the folds were made from their groups."""
    folds = np.asarray(folds)
    return [pair for pair in pairs if folds[pair.left] != folds[pair.right]]
