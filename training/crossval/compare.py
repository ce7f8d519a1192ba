"""Cross-validations side by side: what was set otherwise, and is one better than the first?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kaggle_rag.data.predictions import Predictions
from kaggle_rag.evaluation.metrics import average_precisions, bootstrap, paired_bootstrap
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError
from training.crossval.experiment import read_run
from training.crossval.report import BLEND, OOF


class _Scored(NamedTuple):
    """A run: its configuration, and AP@3 and right option of each question by fingerprint."""

    folder: Path
    configuration: dict[str, Any]
    values: dict[str, float]
    answers: dict[str, int]


def compare(folders: Sequence[Path], ranker: str = BLEND) -> dict[str, Any]:
    """Table runs; each is compared with the first on the questions that both have, with the same answer.

    Raises
    ------
    ConfigError : fewer than two runs, or a run without that ranker.
    ArtifactError : a folder without a finished cross-validation.
    InputError : a run that shares no question with the first.
    """
    if len(folders) < 2:
        raise ConfigError("one run has nothing to be compared with", expected="two folders or more")
    runs = [_read(folder, ranker) for folder in folders]
    settings = [_flat(run.configuration) for run in runs]
    keys = sorted({key for each in settings for key in each})
    differing = [key for key in keys if len({repr(each.get(key)) for each in settings}) > 1]
    return {
        "ranker": ranker,
        "differences": {key: [each.get(key) for each in settings] for key in differing},
        "runs": [_row(runs[0], run) for run in runs],
    }


def _read(folder: Path, ranker: str) -> _Scored:
    configuration = read_run(folder)
    if not (folder / OOF).is_file():
        raise ArtifactError(
            "this cross-validation is not finished", where=folder, cure="rerun its command: it resumes"
        )
    found = Predictions.read(folder / OOF)
    if ranker not in found.tables:
        raise ConfigError(
            f"the run has no ranker {ranker!r}", where=folder, expected="one of " + ", ".join(found.tables)
        )
    table = found.tables[ranker]
    values = average_precisions(table, found.answers, np.isfinite(table) & (table > 0))
    asked = {"folds": configuration["decided"]["folds"], "seed": configuration["decided"]["seed"]}
    return _Scored(
        folder, configuration["configuration"] | asked,
        dict(zip(found.marks, values.tolist())), dict(zip(found.marks, found.answers.tolist())),
    )  # fmt: skip


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: each
        for part, inner in value.items()
        for key, each in _flat(inner, f"{name}.{part}" if name else str(part)).items()
    }


def _row(first: _Scored, run: _Scored) -> dict[str, Any]:
    score = bootstrap(list(run.values.values()))
    row = {"run": str(run.folder), "questions": len(run.values), "map@3": str(score), "mean": score.mean}
    if run is first:
        return row
    both = [mark for mark in first.values if mark in run.values]
    if not both:
        raise InputError(
            f"no question of it stands in {first.folder}", where=run.folder,
            expected="runs on the same questions, told by their prompt and options",
        )  # fmt: skip
    same = [mark for mark in both if first.answers[mark] == run.answers[mark]]
    if not same:
        raise InputError(f"no question has the answer it has in {first.folder}", where=run.folder)
    ours, theirs = ([each.values[mark] for mark in same] for each in (run, first))
    found = paired_bootstrap(ours, theirs)
    return {
        **row, "shared": len(same), "other answers": len(both) - len(same),
        "difference": {"mean": found.difference.mean, "low": found.difference.low,
                       "high": found.difference.high},
        "p": found.p_value, "distinguishable": found.distinguishable, "text": str(found),
    }  # fmt: skip


def text(found: dict[str, Any]) -> str:
    """The table as a person reads it."""
    wide = max(len(row["run"]) for row in found["runs"])
    lines = [f"{'run':<{wide}}  questions  MAP@3 of {found['ranker']:<14}  against the first"]
    for row in found["runs"]:
        against = f"{row['text']} on {row['shared']:,} questions" if "text" in row else "-"
        if row.get("other answers"):
            against += f" ({row['other answers']:,} more have other answers)"
        lines.append(f"{row['run']:<{wide}}  {row['questions']:>9,}  {row['map@3']:<23}  {against}")
    lines.append("")
    lines += [f"{key}: {' | '.join(map(str, each))}" for key, each in found["differences"].items()]
    return "\n".join(lines if found["differences"] else [*lines, "the same configuration"])
