"""Stacking: a small model reads every ranker's scores of an option and predicts how likely it is right.

The models are fitted by scikit-learn (the ``train`` extra) and stored as plain arrays, so a saved stack
needs neither pickle nor scikit-learn.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.probabilities import Probabilities, ranking, softmax
from kaggle_rag.ensembling.blending import blend, check_tables, folds_or_random
from kaggle_rag.evaluation.metrics import Comparison, average_precisions, paired_bootstrap
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError
from kaggle_rag.runtime.files import whole_file

Floats = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[Any]]
_FORMAT = "kaggle-rag stack 1"
_OF_A_RANKER = ("probability", "reciprocal rank", "margin", "entropy")


def option_features(
    tables: Mapping[str, Probabilities],
    present: npt.NDArray[np.bool_],
    scores: Mapping[str, npt.NDArray[Any]] | None = None,
) -> tuple[Floats, tuple[str, ...]]:
    """Features of every option, ``(n, k, f)`` float64, and their names.

    For each ranker: the probability, 1 / rank, the margin to the best other option, and the entropy of
    the question's row divided by that of a uniform one (how unsure the ranker is, the same for all
    options). Then each of ``scores`` unchanged, 0 where it is not finite.

    Parameters
    ----------
    tables : ``(n, k)`` probabilities by the ranker's name.
    scores : additional ``(n, k)`` numbers, such as similarities, by name.

    Raises
    ------
    InputError : a table or scores of a different shape.
    """
    columns, names = [], []
    for name, table in tables.items():
        columns += _of_ranker(np.where(_same_shape(table, present, name), table, 0.0), present)
        names += [f"{name}: {feature}" for feature in _OF_A_RANKER]
    for name, score in (scores or {}).items():
        known = _same_shape(score, present, name) & np.isfinite(score)
        columns.append(np.where(known, score, 0.0))
        names.append(name)
    return np.stack(columns, axis=2).astype(np.float64), tuple(names)


def _same_shape(table: npt.NDArray[Any], present: npt.NDArray[np.bool_], name: str) -> npt.NDArray[np.bool_]:
    if table.shape != present.shape:
        raise InputError(f"{name!r} has the shape {table.shape}", expected=str(present.shape))
    return present


def _of_ranker(table: Floats, present: npt.NDArray[np.bool_]) -> list[Floats]:
    order = ranking(table, present)
    ranks = np.empty(table.shape)
    np.put_along_axis(ranks, order, np.arange(1.0, table.shape[1] + 1)[None], axis=1)
    best, second = (np.take_along_axis(table, order[:, [place]], axis=1) for place in (0, 1))
    margin = np.where(ranks == 1, table - second, table - best)
    logs = np.log(np.where(table > 0, table, 1.0))
    entropy = -(table * logs).sum(axis=1, keepdims=True) / np.log(present.sum(axis=1, keepdims=True))
    return [table, 1 / ranks, margin, np.broadcast_to(entropy, table.shape)]


def _fit_logistic(features: Floats, right: npt.NDArray[np.bool_], seed: int) -> Arrays:
    from sklearn.linear_model import LogisticRegression

    mean, spread = features.mean(axis=0), features.std(axis=0)
    scale = np.where(spread > 1e-12, spread, 1.0)
    model = LogisticRegression(C=1.0, max_iter=1000, random_state=seed).fit((features - mean) / scale, right)
    # The standardisation is folded into the coefficients: the file stores one linear function.
    slope = model.coef_[0] / scale
    return {"slope": slope, "intercept": model.intercept_ - mean @ slope}


def _apply_logistic(arrays: Arrays, features: Floats) -> Floats:
    return np.asarray(features @ arrays["slope"] + arrays["intercept"], dtype=np.float64)


def _fit_boosted(features: Floats, right: npt.NDArray[np.bool_], seed: int) -> Arrays:
    """Gradient-boosted trees as arrays ``(trees, nodes)``; unused entries are leaves of 0.

    ``GradientBoostingClassifier``, not its Hist sibling: its trees are accessible through public attributes
    (``estimators_``, ``tree_``), the other's only through private ones, or pickle.
    """
    from sklearn.ensemble import GradientBoostingClassifier

    model = GradientBoostingClassifier(
        n_estimators=100, learning_rate=0.05, max_depth=3, min_samples_leaf=20, subsample=0.5,
        random_state=seed,
    ).fit(features, right)  # fmt: skip
    trees = [step[0].tree_ for step in model.estimators_]
    nodes = max(tree.node_count for tree in trees)

    def table(name: str, kind: type) -> npt.NDArray[Any]:
        out = np.zeros((len(trees), nodes), dtype=kind)
        for row, tree in enumerate(trees):
            out[row, : tree.node_count] = np.ravel(getattr(tree, name))
        return out

    share = float(right.mean())
    return {
        # Above the root no child is 0, so 0 marks a leaf.
        "left": np.maximum(table("children_left", np.int64), 0),
        "right": np.maximum(table("children_right", np.int64), 0),
        "feature": np.maximum(table("feature", np.int64), 0),
        "threshold": table("threshold", np.float64),
        "value": model.learning_rate * table("value", np.float64),
        "intercept": np.array([np.log(share / (1 - share))]),
    }


def _apply_boosted(arrays: Arrays, features: Floats) -> Floats:
    # scikit-learn compares float32 features with its thresholds.
    features = features.astype(np.float32)
    total = np.full(len(features), float(arrays["intercept"][0]))
    every = np.arange(len(features))
    for left, right, feature, threshold, value in zip(
        *(arrays[name] for name in ("left", "right", "feature", "threshold", "value"))
    ):
        node = np.zeros(len(features), dtype=np.int64)
        # No path is longer than the number of nodes, whatever a damaged file contains.
        for _ in range(len(left)):
            inner = left[node] > 0
            if not inner.any():
                break
            down = np.where(features[every, feature[node]] <= threshold[node], left[node], right[node])
            node = np.where(inner, down, node)
        total += value[node]
    return total


_Fit = Callable[[Floats, npt.NDArray[np.bool_], int], Arrays]
KINDS: dict[str, tuple[_Fit, Callable[[Arrays, Floats], Floats]]] = {
    "logistic": (_fit_logistic, _apply_logistic),
    "boosted": (_fit_boosted, _apply_boosted),
}


@dataclasses.dataclass(frozen=True)
class Stack:
    """A fitted stack: a key of ``KINDS``, the names of its features, and its arrays."""

    kind: str
    features: tuple[str, ...]
    arrays: Arrays

    @property
    def rankers(self) -> tuple[str, ...]:
        """The rankers that it combines, in order."""
        first = f": {_OF_A_RANKER[0]}"
        return tuple(name.removesuffix(first) for name in self.features if name.endswith(first))

    def mixed(self, tables: Sequence[Probabilities], present: npt.NDArray[np.bool_]) -> Probabilities:
        """``(n, k)`` float32 for new questions, from ``(n, k)`` tables in the order of ``rankers``."""
        return self.probabilities(option_features(dict(zip(self.rankers, tables)), present)[0], present)

    def probabilities(self, features: Floats, present: npt.NDArray[np.bool_]) -> Probabilities:
        """``(n, k)`` float32 from features ``(n, k, f)``: a softmax of log odds over present options.

        Raises
        ------
        InputError : a different number of features.
        """
        if features.shape != (*present.shape, len(self.features)):
            raise InputError(
                f"features of shape {features.shape}",
                expected=f"{(*present.shape, len(self.features))}: {', '.join(self.features)}",
            )
        odds = np.zeros(present.shape)
        odds[present] = KINDS[self.kind][1](self.arrays, features[present])
        return softmax(odds, present)

    def save(self, path: str | Path) -> None:
        """Write one ``.npz`` of plain arrays, atomically."""
        head = json.dumps({"format": _FORMAT, "kind": self.kind, "features": self.features})
        contents: dict[str, Any] = {"head": np.array(head), **self.arrays}
        with whole_file(path) as aside, aside.open("wb") as file:
            np.savez(file, **contents)

    @classmethod
    def load(cls, path: str | Path) -> Stack:
        """Read what `save` wrote.

        Raises
        ------
        ArtifactError : no such file, or not a stack of this version.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            head = json.loads(str(arrays.pop("head")))
            if head["format"] != _FORMAT or head["kind"] not in KINDS:
                raise ValueError
            stack = cls(head["kind"], tuple(head["features"]), arrays)
            # A trial run: arrays that do not match are found here and not at the first question.
            KINDS[stack.kind][1](arrays, np.zeros((1, len(stack.features))))
        except FileNotFoundError:
            raise ArtifactError("no such file", where=path, cure="check the spelling of the path") from None
        except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile) as error:
            raise ArtifactError(
                "not a stack that this version reads", where=path, expected=f"a file of {_FORMAT!r}",
                cure="use the stack.npz of a cross-validation with --stack, or rerun it",
            ) from error  # fmt: skip
        return stack


@dataclasses.dataclass(frozen=True)
class FittedStack:
    """A stack fitted on all questions, and its performance on questions it was not fitted on.

    Attributes
    ----------
    held_out : ``(n, k)`` float32, each fold from a stack fitted on the other folds.
    comparison : MAP@3 of ``held_out`` minus that of the rankers' equal blend; use the stack if it is
        distinguishable and above zero.
    """

    stack: Stack
    held_out: Probabilities
    comparison: Comparison


def fit_stack(
    tables: Mapping[str, Probabilities],
    answers: npt.NDArray[np.int64],
    present: npt.NDArray[np.bool_],
    *,
    kind: str = "logistic",
    scores: Mapping[str, npt.NDArray[Any]] | None = None,
    folds: npt.NDArray[np.int64] | None = None,
    seed: int = 0,
) -> FittedStack:
    """Fit a stack on out-of-fold predictions: is this option the right one, yes or no.

    Parameters
    ----------
    tables, scores : as `option_features`; the tables must be out-of-fold predictions.
    answers : ``(n,)`` columns of the right options.
    kind : a key of ``KINDS``.
    folds : as `kaggle_rag.ensembling.blending.fit_weights`.

    Raises
    ------
    ConfigError : no such kind, scikit-learn is missing, or no table.
    InputError : a question without an answer, or a table of a different shape.
    """
    if kind not in KINDS:
        raise ConfigError(f"no stack of the kind {kind!r}", expected="one of " + ", ".join(KINDS))
    check_tables(list(tables.values()), answers, present)
    folds = folds_or_random(len(answers), seed, folds)
    features, names = option_features(tables, present, scores)
    held_out = np.empty(present.shape, dtype=np.float32)
    for fold in np.unique(folds):
        out = folds == fold
        stack = _fitted(kind, names, features[~out], answers[~out], present[~out], seed)
        held_out[out] = stack.probabilities(features[out], present[out])
    equal = blend(list(tables.values()), [1.0] * len(tables), present)
    comparison = paired_bootstrap(
        *(average_precisions(table, answers, present) for table in (held_out, equal)), seed=seed
    )
    return FittedStack(_fitted(kind, names, features, answers, present, seed), held_out, comparison)


def _fitted(
    kind: str,
    names: Sequence[str],
    features: Floats,
    answers: npt.NDArray[np.int64],
    present: npt.NDArray[np.bool_],
    seed: int,
) -> Stack:
    right = np.arange(present.shape[1]) == answers[:, None]
    try:
        arrays = KINDS[kind][0](features[present], right[present], seed)
    except ImportError as error:
        raise ConfigError(
            f"stacking needs a package that is not installed ({error.name})",
            cure="pip install 'kaggle-rag[train]'",
        ) from error
    return Stack(kind, tuple(names), arrays)
