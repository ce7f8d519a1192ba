"""Blend the predictions of several runs, notebooks or teammates into one submission."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from inference.predictions import CONTEXTS, blendable, weight_of
from inference.report.runs import StoredRun, is_submission_run
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.submission import TOP, is_submission, top_letters, write_submission
from kaggle_rag.ensembling.blending import blend
from kaggle_rag.runtime.errors import ConfigError, InputError
from kaggle_rag.runtime.words import counted

# Beyond it, sums of weighted probabilities lose the small weights.
_MOST = 1e6


@dataclasses.dataclass(frozen=True)
class BlendReport:
    """What was blended: of each run its rankers, its weight, and how many questions it answered.

    ``unanswered`` questions were answered by no run: their options are written in their order. ``left_out``
    questions are not in the first run, and so not in the submission.
    """

    out: Path
    questions: int
    runs: tuple[tuple[Path, tuple[str, ...], float, int], ...]
    unanswered: int
    left_out: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "out": str(self.out), "questions": self.questions,
            "unanswered": self.unanswered, "left out": self.left_out,
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
        if self.left_out:
            lines.append(
                f"PARTIAL: {counted(self.left_out, 'question')} of other runs, which the first run does not "
                "have, left out. The competition will reject it: run the first one without --limit"
            )
        return "\n".join([*lines, f"{self.out}: {counted(self.questions, 'prediction')}"])


class _Run(NamedTuple):
    """A run's questions and its answers ``(n, k)``, NaN where it has none; ``top``: letters it wrote."""

    ids: Sequence[str]
    marks: Sequence[str]
    present: npt.NDArray[np.bool_]
    mix: Probabilities
    rankers: tuple[str, ...]
    top: int | Literal["all"]


def blend_runs(
    runs: Sequence[Path], out: Path, weights: Sequence[float] | None = None, rule: str = "probabilities",
    top: int | Literal["all"] | None = None,
) -> BlendReport:  # fmt: skip
    """Blend runs and write a submission.

    Parameters
    ----------
    runs : folders ``NAME.predictions`` of ``submit`` (rankers mixed as they were there), or single
        predictions files.
    weights : one per run (default: all equal).
    rule : a key of `kaggle_rag.ensembling.blending.RULES`.
    top : letters of each prediction (default: as many as the first run wrote).

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
    read = [_read(run, rule) for run in runs]
    first = read[0]
    mixes = [_aligned(first, each, run) for run, each in zip(runs, read)]
    table = blend(mixes, weights, first.present, rule)
    write_submission(out, first.ids, top_letters(table, first.present, top or first.top))
    answered = np.array([np.isfinite(mix).all(axis=1) for mix in mixes])
    counts = answered.sum(axis=1).tolist()
    return BlendReport(
        out, len(first.ids), tuple(zip(runs, [each.rankers for each in read], weights, counts)),
        unanswered=int((~answered[np.array(weights) > 0].any(axis=0)).sum()),
        left_out=max(len(each.ids) for each in read) - len(first.ids),
    )  # fmt: skip


def _read(run: Path, rule: str) -> _Run:
    """A run's answer: of its folder as it was mixed there, of other files by the weights that they tell."""
    if run.is_dir() and is_submission_run(run):
        stored = StoredRun.open(run)
        mix = next(iter(stored.mixed(stored.present).values()))
        marks, tables, top = stored.marks, stored.tables, stored.mix.top
        return _Run(stored.ids, marks, stored.present, _answered(mix, tables), tuple(tables), top)
    files = sorted(run.glob("*.parquet")) if run.is_dir() else [run]
    files = [path for path in files if path.name != f"{CONTEXTS}.parquet"]
    if not files or not all(path.is_file() for path in files):
        raise InputError(
            "no predictions here", where=run,
            expected="a folder NAME.predictions that inference submit wrote, or one of its files",
        )  # fmt: skip
    read = [Predictions.read(path) for path in files]
    tables, weights = dict[str, Probabilities](), []
    for path, each in zip(files, read):
        if each.marks != read[0].marks:
            raise InputError(f"other questions than those of {files[0].name}", where=path)
        if twice := tables.keys() & each.tables.keys():
            raise InputError(
                f"a second table of the ranker {min(twice)!r}", where=path,
                expected="each ranker once", cure="pass the files as runs of their own, or remove one",
            )  # fmt: skip
        tables |= blendable(each)
        weights += [weight_of(each, path)] * len(each.tables)
    first = read[0]
    weights = weights if any(weights) else [1.0] * len(weights)
    mix = blend([*tables.values()], weights, first.present, rule)
    return _Run(first.ids, first.marks, first.present, _answered(mix, tables), tuple(tables), TOP)


def _answered(mix: Probabilities, tables: Mapping[str, Probabilities]) -> Probabilities:
    """The mix of some rankers; NaN where none of them answered."""
    answered = np.isfinite(np.stack([*tables.values()])).all(axis=2, keepdims=True).any(axis=0)
    return np.asarray(np.where(answered, mix, np.nan), dtype=np.float32)


def _aligned(first: _Run, other: _Run, run: Path) -> Probabilities:
    """The answers in the order of the first run's questions."""
    if other.marks == first.marks:
        return other.mix
    rows = {mark: row for row, mark in enumerate(other.marks)}
    if missing := [key for key, mark in zip(first.ids, first.marks) if mark not in rows]:
        raise InputError(
            f"{counted(len(missing), 'question')} of the first run {'is' if len(missing) == 1 else 'are'} "
            f"not in it, such as {missing[0]!r}", where=run,
            expected="runs on the same questions, identified by prompt and options",
        )  # fmt: skip
    return other.mix[[rows[mark] for mark in first.marks]]
