"""Rankers' predictions as files that grow batch by batch, so that a restart takes them up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_rag.config import RankerSettings
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.scaling import Calibration
from kaggle_rag.rankers.identity import free_name
from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.work_folder import WorkFolder

KEY = "key.json"
# Beside the rankers' tables lies what was searched for them.
CONTEXTS = "contexts"


# In a folder of predictions that were asked for themselves.
_KEPT = ".kept"


class _Folder(WorkFolder):
    """Predictions of other questions or contexts would never be blended with these: they are cleared away.

    Those that ``predict`` wrote are not.
    """

    state = "folder of predictions beside a "

    def worth_keeping(self) -> bool:
        return (self.folder / _KEPT).exists()


class _KeptFolder(WorkFolder):
    """Predictions that were asked for themselves are never cleared away."""

    state = ""


def predictions_beside(submission: Path) -> Path:
    """The folder of a submission's predictions."""
    return submission.with_name(submission.stem + ".predictions")


class PredictionStore:
    """A folder ``NAME.predictions``, such as that beside a submission: ``RANKER.parquet`` for each ranker.

    A table has NaN in the rows of questions that its ranker has not answered.

    Parameters
    ----------
    questions : all of them.
    key : what all rankers read, as plain JSON.
    keep : refuse to replace predictions of another key, or by a ranker of other settings; by default they
        are thrown away.
    """

    def __init__(
        self, folder: Path, questions: Questions, key: Mapping[str, Any], *, keep: bool = False
    ) -> None:
        self.questions, self.keep = questions, keep
        kind, what = (_KeptFolder, "folder of predictions") if keep else (_Folder, "submission")
        self.work = kind(
            folder, key, what, file=KEY, cure="choose another --out, or remove this folder"
        )  # fmt: skip

    def load(self, name: str, made_by: Mapping[str, Any]) -> Probabilities:
        """The table of a ranker, ``(n, k)``; all NaN where it was made with other settings, or not at all.

        Raises
        ------
        ArtifactError : it was made with other settings, and is kept.
        """
        path = self._path(name)
        if path.is_file():
            try:
                stored = Predictions.read(path)
            except ArtifactError:
                # Whatever lies there is made anew.
                return self._empty()
            table = stored.tables.get(name)
            if stored.notes.get("made by") == plain_json(made_by) and table is not None:
                return table
            if self.keep:
                raise ArtifactError(
                    "predictions of this ranker with other settings already exist", where=path,
                    cure="choose another --out, or remove that file first",
                )  # fmt: skip
        return self._empty()

    def save(
        self, name: str, table: Probabilities, made_by: Mapping[str, Any], settings: RankerSettings
    ) -> None:
        """Write a ranker's table as it is now, and how it is blended."""
        folds = np.full(len(self.questions), -1, np.int64)
        notes = _notes(made_by, settings)
        Predictions.of(self.questions, folds, {name: table}, notes).write(self._path(name))

    def blend_as(
        self, name: str, table: Probabilities, made_by: Mapping[str, Any], settings: RankerSettings
    ) -> None:
        """Write how the stored answers of a ranker are blended, if that is not what is written already."""
        if Predictions.read(self._path(name)).notes != _notes(made_by, settings):
            self.save(name, table, made_by, settings)

    def keep_it(self) -> None:
        """Mark the folder as one that no submission clears away."""
        (self.work.folder / _KEPT).touch()

    def unfinished(self, name: str) -> Path:
        """The folder in which a ranker keeps what it goes on from when it was killed."""
        return self.work.folder / f"{name}.pass"

    def batches(self, name: str) -> Path:
        """The folder in which a ranker's answers are kept until all are there."""
        return self.work.folder / f".{name}.batches"

    def _empty(self) -> Probabilities:
        return np.full(self.questions.present.shape, np.nan, np.float32)

    def _path(self, name: str) -> Path:
        return self.work.folder / f"{name}.parquet"


def blendable(stored: Predictions) -> dict[str, Probabilities]:
    """The tables of a file as they are blended: with the calibration that their ranker had."""
    told = {key: stored.notes[key] for key in ("temperature", "vector") if key in stored.notes}
    try:
        calibration = Calibration.of(RankerSettings.model_validate(told))
    except ValueError as error:
        raise ArtifactError(
            "these predictions do not say how they were blended", where="notes temperature and vector",
            cure="answer the questions again: python -m inference submit",
        ) from error
    return {
        name: calibration(table, stored.present)
        for name, table in stored.tables.items()
    }


def weight_of(stored: Predictions, where: Path) -> float:
    """The weight that a ranker's answers had in their run, 1 where the file does not say it."""
    try:
        return float(stored.notes.get("weight", 1.0))
    except (TypeError, ValueError):
        raise ArtifactError(
            "cannot read the weight of its ranker", where=where,
            cure="answer the questions again: python -m inference submit",
        ) from None  # fmt: skip


def names_of(rankers: list[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """A file name for each ranker, by its folder or its kind, with a number where it is taken."""
    names: list[str] = []
    for kind, options in rankers:
        names.append(free_name(str(options.get("folder", kind)), kind, {CONTEXTS, *names}))
    return names


def _notes(made_by: Mapping[str, Any], settings: RankerSettings) -> dict[str, Any]:
    return {"made by": plain_json(made_by), "weight": settings.weight, **Calibration.of(settings).settings}


def plain_json(value: Mapping[str, Any]) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(value, default=str))
