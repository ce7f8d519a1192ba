"""Data maps: how sure a ranker was of each label, and how much that changed, while it was trained.

Source: Swayamdipta et al. 2020, Dataset Cartography, https://aclanthology.org/2020.emnlp-main.746.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kaggle_rag.data.questions import Questions, id_text
from kaggle_rag.data.tables import read_rows
from kaggle_rag.runtime.errors import ArtifactError, InputError
from kaggle_rag.runtime.files import whole_file

Floats = npt.NDArray[np.float64]
# Beside the weights of a ranker that was trained with ``data_map: true``.
FILE = "data_map.parquet"
_NUMBERS = ("confidence", "variability", "correctness", "epochs")
COLUMNS = ("id", "question", *_NUMBERS)
_MAKE = "train a ranker with data_map: true, which writes " + FILE


class Dynamics(NamedTuple):
    """What training said of ``n`` questions.

    Attributes
    ----------
    confidence : ``(n,)`` mean probability of the label over the epochs; NaN without any epoch.
    variability : ``(n,)`` its standard deviation over them.
    correctness : ``(n,)`` share of the epochs in which the label was the likeliest option.
    epochs : ``(n,)`` how many epochs were counted.
    """

    confidence: Floats
    variability: Floats
    correctness: Floats
    epochs: Floats

    def take(self, rows: npt.NDArray[np.int64]) -> Dynamics:
        return Dynamics(*(column[rows] for column in self))


def dynamics(probabilities: npt.ArrayLike, right: npt.ArrayLike) -> Dynamics:
    """The map of ``(epochs, n)`` probabilities of the labels, NaN where an epoch does not count.

    ``mu = sum(p) / E`` and ``sigma = sqrt(sum((p - mu) ** 2) / E)``, section 2 of the paper; as in its code
    they are the probabilities of the training passes themselves. ``right`` ``(epochs, n)``: 1 where the label
    was the likeliest option.
    """
    table = np.asarray(probabilities, dtype=np.float64)
    seen = ~np.isnan(table)
    epochs = seen.sum(axis=0).astype(np.float64)

    def mean(values: npt.ArrayLike) -> Floats:
        return _ratio(np.where(seen, values, 0.0).sum(axis=0), epochs)

    confidence = mean(table)
    return Dynamics(confidence, np.sqrt(mean((table - confidence) ** 2)), mean(right), epochs)


def mean_of(maps: Sequence[Dynamics]) -> Dynamics:
    """The maps of several trainings as one, each counting by its epochs; the epochs are summed."""
    weights = np.stack([each.epochs for each in maps])
    epochs = weights.sum(axis=0)
    confidence, variability, correctness, _ = (
        _ratio(np.where(weights > 0, weights * np.stack(column), 0.0).sum(axis=0), epochs)
        for column in zip(*maps)
    )
    return Dynamics(confidence, variability, correctness, epochs)


def _ratio(sums: Floats, counts: Floats) -> Floats:
    """Means of ``counts`` numbers, NaN of none."""
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts, dtype=np.float64)


# Each region of a map, and what is ranked highest in it (section 3 of the paper).
REGIONS: dict[str, Callable[[Dynamics], Floats]] = {
    "ambiguous": lambda found: found.variability,
    "hard": lambda found: -found.confidence,
    "easy": lambda found: found.confidence,
}


def ranked(found: Dynamics, region: str) -> npt.NDArray[np.int64]:
    """Rows of a map from the most ambiguous, hard or easy on; without rows that no epoch counted."""
    counted = np.flatnonzero(found.epochs > 0)
    return np.asarray(counted[np.argsort(-REGIONS[region](found)[counted], kind="stable")], dtype=np.int64)


def write_data_map(path: Path, questions: Questions, found: Dynamics) -> None:
    """Write ``id, question, confidence, variability, correctness, epochs`` of the questions that counted.

    ``question`` is the hash of prompt and options, as in a contexts file.
    """
    rows, hashes = np.flatnonzero(found.epochs > 0), questions.fingerprints()
    table = {
        "id": pa.array([id_text(questions.ids[row]) for row in rows], pa.string()),
        "question": pa.array([hashes[row] for row in rows], pa.string()),
        **dynamics_columns(found.take(rows)),
    }
    with whole_file(path) as aside:
        pq.write_table(pa.table(table), aside)


def dynamics_columns(found: Dynamics) -> dict[str, pa.Array]:
    """The columns of a table: float64 with nulls where no epoch was counted, and the int32 epochs."""
    numbers = [pa.array(column, from_pandas=True) for column in found[:3]]
    return dict(zip(_NUMBERS, [*numbers, pa.array(found.epochs.astype(np.int32))]))


def read_data_map(path: Path, questions: Questions) -> Dynamics:
    """The map of these questions, in their order; 0 epochs for those that it does not have.

    Parameters
    ----------
    path : what `write_data_map` or ``python -m training diagnose`` wrote.

    Raises
    ------
    InputError : a column is missing, or a cell is no number.
    ArtifactError : a question that is not among these.
    """
    row_of = dict(zip(zip(map(id_text, questions.ids), questions.fingerprints()), itertools.count()))
    found = np.full((4, len(questions)), np.nan)
    found[3] = 0
    strange = 0
    for number, cells in enumerate(read_rows(path, COLUMNS), 1):
        if missing := [name for name in COLUMNS if name not in cells]:
            raise InputError(
                f"column {missing[0]!r} is missing", where=path, expected=", ".join(COLUMNS), cure=_MAKE
            )
        row = row_of.get((id_text(cells["id"]), str(cells["question"])))
        if row is None:
            strange += 1
        elif cells["epochs"]:
            found[:, row] = _numbers(cells, f"{path}, row {number}")
    if strange:
        raise ArtifactError(
            f"a data map of other questions: {strange:,} of its {number:,} are not among these", where=path,
            expected="the map of a ranker that was trained on these very files", cure=_MAKE,
        )  # fmt: skip
    return Dynamics(*found)


def _numbers(cells: dict[str, object], where: str) -> list[float]:
    try:
        confidence, variability, correctness, epochs = (float(str(cells[name])) for name in _NUMBERS)
    except ValueError:
        raise InputError(
            "a cell is not a number", where=where, expected="numbers in " + ", ".join(_NUMBERS)
        ) from None
    shares = {"confidence": confidence, "variability": variability, "correctness": correctness}
    if wrong := [name for name, share in shares.items() if not 0 <= share <= 1]:
        raise InputError(
            f"{shares[wrong[0]]} is not between 0 and 1",
            where=f"{where}, column {wrong[0]}",
            expected="0 to 1",
        )
    if not (1 <= epochs < math.inf and epochs == int(epochs)):
        raise InputError(
            f"{epochs} is not a number of epochs", where=f"{where}, column epochs", expected="1 or more"
        )
    return [confidence, variability, correctness, epochs]
