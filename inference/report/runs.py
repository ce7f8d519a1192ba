"""What a run left behind: the folder beside a submission, or that of a cross-validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from inference.predictions import KEY, blendable, weight_of
from inference.run_log import RUN, Stage
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions, id_text
from kaggle_rag.data.submission import TOP
from kaggle_rag.ensembling.blending import RULES, blend
from kaggle_rag.ensembling.stacking import Stack
from kaggle_rag.runtime.errors import ArtifactError, InputError
from kaggle_rag.runtime.work_folder import read_json

# Files of a cross-validation, and its names of mixes, as in training/crossval.
_OOF, _METRICS = "oof.parquet", "metrics.json"
_BLEND, _STACK = "blend", "stack"
_CONTEXTS = "contexts.parquet"
_RANK = "rank: "
_UNSAID = f"{RUN} is missing or damaged: rankers are blended by their weights, and no stages are known"
_KILLED = f"the run was ended before it could write its stages to {RUN}"
_MAKE = "python -m inference submit, or python -m training cross-validate"


class Mix(NamedTuple):
    """How the rankers that ``order`` names are combined: by a rule of blending, or by a stack.

    ``top`` is how many letters of an answer were written.
    """

    rule: str = "probabilities"
    stack: Path | None = None
    order: tuple[str, ...] = ()
    top: int | Literal["all"] = TOP


@dataclasses.dataclass(frozen=True)
class StoredRun:
    """Predictions of ``n`` questions, and how they were made.

    Attributes
    ----------
    kind : ``submission`` or ``cross-validation``.
    ids, marks, answers, present : as in `Predictions`.
    tables : by ranker, ``(n, k)``; NaN in the rows of questions that it has not answered.
    weights : by ranker.
    mixes : mixed tables, as stored; the first is the run's answer. Empty: ``mix`` says how to make it.
    contexts : what the run says its contexts are: a file's SHA-256, the settings of a search, ``None``: no
        contexts; empty if it does not say.
    seen : ids of questions that one of the run's models was trained on.
    unsaid : what nothing tells of the run.
    """

    folder: Path
    kind: str
    ids: Sequence[str]
    marks: Sequence[str]
    answers: npt.NDArray[np.int64]
    present: npt.NDArray[np.bool_]
    tables: Mapping[str, Probabilities]
    weights: Mapping[str, float]
    mixes: Mapping[str, Probabilities]
    mix: Mix
    stages: tuple[Stage, ...]
    contexts: Any
    seen: frozenset[str] = frozenset()
    unsaid: str = ""

    @property
    def searched(self) -> Path | None:
        """The contexts that the run itself searched, if they are there."""
        path = self.folder / _CONTEXTS
        return path if isinstance(self.contexts, dict) and path.is_file() else None

    @classmethod
    def open(cls, folder: Path) -> StoredRun:
        """Read a folder.

        Raises
        ------
        ArtifactError : it is neither of the two, or damaged, or holds no answers yet.
        """
        if is_submission_run(folder):
            return _submission(folder)
        if (folder / _OOF).is_file():
            return _cross_validation(folder)
        named = folder.resolve()
        beside = named.with_name(named.stem + ".predictions") if named.name else named
        found = beside != named and (beside / KEY).is_file()
        raise ArtifactError(
            "no such folder" if not folder.exists() else "nothing that could be reported lies here",
            where=folder, expected=f"a folder that was written by {_MAKE}",
            cure=f"pass {beside}" if found else "pass NAME.predictions, which lies beside a submission",
        )  # fmt: skip

    def take(self, rows: npt.NDArray[np.int64]) -> StoredRun:
        """The run as if it had answered these questions alone, in this order."""
        of = {
            field: {name: table[rows] for name, table in tables.items()}
            for field, tables in (("tables", self.tables), ("mixes", self.mixes))
        }
        ids, marks = ([each[row] for row in rows.tolist()] for each in (self.ids, self.marks))
        return dataclasses.replace(
            self, ids=ids, marks=marks, answers=self.answers[rows], present=self.present[rows],
            tables=of["tables"], mixes=of["mixes"],
        )  # fmt: skip

    def rows_in(self, questions: Questions, where: Path) -> npt.NDArray[np.int64]:
        """The row of each of the run's questions in a table, ``(n,)``.

        Raises
        ------
        InputError : a question is missing there, or is another one.
        """
        row_of = {id_text(key): row for row, key in enumerate(questions.ids)}
        marks = questions.fingerprints()
        for key, mark in zip(self.ids, self.marks):
            if key not in row_of or marks[row_of[key]] != mark:
                what = "is another one than the run's" if key in row_of else "is missing"
                raise InputError(
                    f"the question {key!r} {what}", where=where,
                    expected=f"the questions that {self.folder} answers",
                    cure="pass the file that the run was made from, or the same questions with answers",
                )  # fmt: skip
        return np.array([row_of[key] for key in self.ids], dtype=np.int64)

    def mixed(self, present: npt.NDArray[np.bool_]) -> dict[str, Probabilities]:
        """The mixes by name, the run's answer first, each ``(n, k)``; ``present``: which options exist."""
        if self.mixes:
            return dict(self.mixes)
        names = [name for name in self.mix.order if name in self.tables] or list(self.tables)
        tables = [self.tables[name] for name in names]
        # Those that a stack combines may have no weight of their own.
        weights = [1.0 if self.mix.stack else self.weights[name] for name in names]
        blended = blend(tables, weights, present, self.mix.rule)
        if self.mix.stack is None or len(names) < len(self.mix.order):
            return {_BLEND: blended}
        whole = np.isfinite(np.stack(tables)).all(axis=(0, 2))
        if whole.any():
            blended[whole] = Stack.load(self.mix.stack).mixed(
                [table[whole] for table in tables], present[whole]
            )
        return {_STACK: blended}


def is_submission_run(folder: Path) -> bool:
    """Whether it is a folder that ``submit`` or ``predict`` wrote."""
    return (folder / KEY).is_file()


def _submission(folder: Path) -> StoredRun:
    key, run = read_json(folder / KEY) or {}, read_json(folder / RUN) or {}
    stages, mix = _stages(run, folder / RUN), _mix(run.get("mix") or {}, folder / RUN)
    stored = _rankers(folder, mix, [each for each in stages if each.name.startswith(_RANK)])
    first = next(iter(stored.values()))
    for name, each in stored.items():
        if (each.ids, each.marks) != (first.ids, first.marks):
            raise ArtifactError(
                "its questions are not those of the other rankers", where=folder / f"{name}.parquet",
                cure="remove the folder, and run submit again",
            )  # fmt: skip
    weights = {name: weight_of(each, folder / f"{name}.parquet") for name, each in stored.items()}
    return StoredRun(
        folder, "submission", first.ids, first.marks, first.answers, first.present,
        {name: blendable(each)[name] for name, each in stored.items()}, weights, {},
        mix, stages, key.get("contexts"), _seen(run), "" if stages else _KILLED if run else _UNSAID,
    )  # fmt: skip


def _rankers(folder: Path, mix: Mix, stages: Sequence[Stage]) -> dict[str, Predictions]:
    """The rankers that the last run named; where nothing tells them, all that have answered."""
    # The file of a ranker that answered nothing would be of an earlier run with other settings.
    silent = {each.name.removeprefix(_RANK) for each in stages if not each.questions}
    named = mix.order or [each.name.removeprefix(_RANK) for each in stages]
    paths = [folder / f"{name}.parquet" for name in named if name not in silent]
    paths = paths if named else sorted(folder.glob("*.parquet"))
    stored = {
        path.stem: Predictions.read(path) for path in paths if path.name != _CONTEXTS and path.is_file()
    }
    if missing := [name for name, each in stored.items() if name not in each.tables]:
        raise ArtifactError(
            "the predictions of another ranker", where=folder / f"{missing[0]}.parquet",
            cure="remove the folder, and run submit again",
        )  # fmt: skip
    if not stored:
        raise ArtifactError("no ranker has answered yet", where=folder, cure="rerun submit: it resumes")
    return stored


def _mix(stored: Mapping[str, Any], where: Path) -> Mix:
    rule, stack, order = stored.get("rule", "probabilities"), stored.get("stack"), stored.get("rankers", ())
    if rule not in RULES:
        raise ArtifactError(f"no blending rule {rule!r}", where=where, expected="one of " + ", ".join(RULES))
    return Mix(rule, Path(stack) if stack else None, tuple(order), stored.get("top", TOP))


def _stages(run: Mapping[str, Any], where: Path) -> tuple[Stage, ...]:
    try:
        return tuple(Stage(**each) for each in run.get("stages", ()))
    except TypeError:
        raise ArtifactError("the stages cannot be read", where=where, cure="run submit again") from None


def _cross_validation(folder: Path) -> StoredRun:
    predictions, metrics = Predictions.read(folder / _OOF), read_json(folder / _METRICS)
    try:
        weights = {name: float(weight) for name, weight in (metrics or {})["weights"]["weights"].items()}
        stacked = bool((metrics or {}).get("stack") and (metrics or {})["stack"]["better"])
        mixes = {name: predictions.tables[name] for name in (_BLEND, _STACK) if name in predictions.tables}
        tables = {name: predictions.tables[name] for name in weights}
        first = _STACK if stacked else _BLEND
        mixes = {first: mixes.pop(first), **mixes}
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ArtifactError(
            "does not describe the predictions beside it" if metrics else "missing, or damaged",
            where=folder / _METRICS, cure="rerun python -m training cross-validate: it reuses what is there",
        ) from None  # fmt: skip
    decided = (read_json(folder / RUN) or {}).get("decided", {"contexts": ""})
    return StoredRun(
        folder, "cross-validation", predictions.ids, predictions.marks, predictions.answers,
        predictions.present, tables, weights, mixes, Mix(), (), decided.get("contexts"),
        _seen((metrics or {}).get("leaks") or {}),
    )  # fmt: skip


def _seen(stored: Mapping[str, Any]) -> frozenset[str]:
    """Ids of questions that a model was trained on; none in a run of an earlier version."""
    return frozenset(map(str, (stored.get("seen") or {}).get("ids", ())))
