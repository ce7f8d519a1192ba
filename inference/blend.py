"""Blend the predictions of several runs, notebooks or teammates into one submission."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inference.predictions import CONTEXTS, blendable
from inference.run_log import RUN
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.submission import TOP, is_submission, top_letters, write_submission
from kaggle_rag.ensembling.blending import blend
from kaggle_rag.runtime.errors import ConfigError, InputError
from kaggle_rag.runtime.words import counted
from kaggle_rag.runtime.work_folder import read_json

# Beyond it, sums of weighted probabilities lose the small weights.
_MOST = 1e6


@dataclasses.dataclass(frozen=True)
class BlendReport:
    """What was blended: of each run its rankers, its weight, and how many questions it answered.

    ``unanswered`` questions were answered by no run: their options are written in their order.
    """

    out: Path
    questions: int
    runs: tuple[tuple[Path, tuple[str, ...], float, int], ...]
    unanswered: int

    def as_json(self) -> dict[str, Any]:
        return {
            "out": str(self.out), "questions": self.questions,
            "unanswered": self.unanswered,
            "runs": [
                {"run": str(run), "rankers": list(names), "weight": weight, "answered": answered}
                for run, names, weight, answered in self.runs
            ],
        }  # fmt: skip

    def text(self) -> str:
        lines = [
            f"{run}: weight {weight:g}, {', '.join(names)}; answered {answered:,} of {self.questions:,}"
            for run, names, weight, answered in self.runs
        ]
        if self.unanswered:
            unanswered = counted(self.unanswered, "question")
            lines.append(f"warning: no run answered {unanswered}, whose options stand in their order")
        return "\n".join([*lines, f"{self.out}: {counted(self.questions, 'prediction')}"])


def blend_runs(
    runs: Sequence[Path], out: Path, weights: Sequence[float] | None = None, rule: str = "probabilities"
) -> BlendReport:
    """Blend runs and write a submission.

    Parameters
    ----------
    runs : folders ``NAME.predictions`` of ``submit`` (rankers blended by the weights they had there), or
        single predictions files.
    weights : one per run (default: all equal).
    rule : a key of `kaggle_rag.ensembling.blending.RULES`.

    Raises
    ------
    InputError : a run without predictions, or of other questions than the first.
    ConfigError : weights that are not one number for each run; OUT is not a submission.
    """
    weights = list(weights or [1.0] * len(runs))
    if len(weights) != len(runs):
        raise ConfigError(
            f"{counted(len(weights), 'weight')} for {counted(len(runs), 'run')}", where="--weights",
            expected="one for each run",
        )
    if not all(0 <= weight <= _MOST for weight in weights) or not any(weights):
        told = ", ".join(f"{weight:g}" for weight in weights)
        raise ConfigError(
            f"cannot blend by the weights {told}", where="--weights",
            expected=f"numbers from 0 to {_MOST:g}, not all of them 0",
        )  # fmt: skip
    if out.suffix.lower() != ".csv":
        raise ConfigError("not the extension of a submission", where=out, expected=".csv")
    if out.exists() and not is_submission(out):
        raise InputError("a file that is not a submission exists", where=out, cure="choose another --out")
    read = [_read(run) for run in runs]
    first = read[0][0]
    aligned = [_aligned(first, each, run, tables) for run, (each, tables, _) in zip(runs, read)]
    mixes = [_mixed(tables, own, first.present, rule) for tables, (_, _, own) in zip(aligned, read)]
    table = blend(mixes, weights, first.present, rule)
    write_submission(out, first.ids, top_letters(table, first.present, TOP))
    answered = np.array([np.isfinite(mix).all(axis=1) for mix in mixes])
    names = [tuple(predictions.tables) for predictions, _, _ in read]
    counts = answered.sum(axis=1).tolist()
    unanswered = int((~answered[np.array(weights) > 0].any(axis=0)).sum())
    return BlendReport(out, len(first.ids), tuple(zip(runs, names, weights, counts)), unanswered)


def _read(run: Path) -> tuple[Predictions, list[Probabilities], list[float]]:
    """Predictions of a run, with the tables of all of its rankers, and their weights."""
    files = sorted(run.glob("*.parquet")) if run.is_dir() else [run]
    # Rankers that were taken out of the solution later leave their answers behind.
    named = ((read_json(run / RUN) or {}).get("mix") or {}).get("rankers") if run.is_dir() else None
    files = [
        path for path in files
        if path.name != f"{CONTEXTS}.parquet" and (not named or path.stem in named)
    ]  # fmt: skip
    if not files or not all(path.is_file() for path in files):
        raise InputError(
            "no predictions here", where=run,
            expected="a folder NAME.predictions that inference submit wrote, or one of its files",
        )  # fmt: skip
    read = [Predictions.read(path) for path in files]
    tables = {name: table for each in read for name, table in blendable(each).items()}
    weights = [float(each.notes.get("weight", 1.0)) for each in read for _ in each.tables]
    for path, each in zip(files, read):
        if each.marks != read[0].marks:
            raise InputError(f"other questions than those of {files[0].name}", where=path)
    whole = dataclasses.replace(read[0], tables=tables)
    return whole, [*tables.values()], weights if any(weights) else [1.0] * len(weights)


def _mixed(
    tables: Sequence[Probabilities], weights: Sequence[float], present: Any, rule: str
) -> Probabilities:
    """The blend of one run's rankers; NaN where none of them answered."""
    mix = blend(tables, weights, present, rule)
    answered = np.isfinite(np.stack(tables)).all(axis=2, keepdims=True).any(axis=0)
    return np.asarray(np.where(answered, mix, np.nan), dtype=np.float32)


def _aligned(
    first: Predictions, other: Predictions, run: Path, tables: Sequence[Probabilities]
) -> list[Probabilities]:
    """The tables in the order of the first run's questions."""
    if other.marks == first.marks:
        return list(tables)
    rows = {mark: row for row, mark in enumerate(other.marks)}
    if missing := [key for key, mark in zip(first.ids, first.marks) if mark not in rows]:
        raise InputError(
            f"{counted(len(missing), 'question')} of the first run {'is' if len(missing) == 1 else 'are'} "
            f"not in it, such as {missing[0]!r}", where=run,
            expected="runs on the same questions, identified by prompt and options",
        )  # fmt: skip
    order = [rows[mark] for mark in first.marks]
    return [table[order] for table in tables]
