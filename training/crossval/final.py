"""From a cross-validation to a submission: rankers trained on all questions, and a solution with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from kaggle_rag.config import Solution
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.evaluation.fold_table import Folds
from kaggle_rag.rankers.registry import fitted
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.files import whole_file
from kaggle_rag.runtime.places import at
from kaggle_rag.runtime.settings import keys_of
from training.crossval.experiment import Experiment
from training.crossval.mixing import STACK, Mixture
from training.crossval.ranker_spec import RankerSpec
from training.loop.memory import forget_training

SOLUTION, OUT_OF_FOLD = "solution.yaml", "out_of_fold.parquet"
# What a notebook supplies itself: its own questions, and where to write.
_NOT_COPIED = {"questions", "contexts_file", "out", "rankers", "stack", "out_of_fold", "limit"}


def found_by(experiment: Experiment, mixture: Mixture, beside: Path | None = None) -> dict[str, Any]:
    """The keys ``rankers`` and ``stack`` of the resulting solution, with the folders of `train_all`.

    Paths are as the user gave them or, with ``beside``, relative to that folder.
    """
    keys: dict[str, Any] = {
        "rankers": [
            {"kind": spec.settings.kind, **blended, **_options(experiment, spec, beside)}
            for spec, blended in selected_rankers(experiment, mixture)
        ]
    }
    if mixture.stacked:
        keys["stack"] = _path(experiment.folder / STACK, beside)
    return keys


def selected_rankers(
    experiment: Experiment, mixture: Mixture
) -> list[tuple[RankerSpec, dict[str, Any]]]:
    """The rankers to train and list, and how each is blended: all for a stack, else those with a weight."""
    selected = []
    for spec, weight, calibration in zip(
        experiment.specs, mixture.weights.weights, mixture.calibrations
    ):  # fmt: skip
        blended = {"weight": round(weight, 4), **({} if mixture.stacked else calibration.settings)}
        if mixture.stacked or blended["weight"]:
            selected.append((spec, blended))
    return selected


def _write_out_of_fold(experiment: Experiment, mixture: Mixture, folds: Folds) -> None:
    """The predictions of the selected rankers, in the order of the solution."""
    tables = {spec.name: mixture.tables[spec.name] for spec, _ in selected_rankers(experiment, mixture)}
    Predictions.of(experiment.questions, folds, tables, {}).write(experiment.folder / OUT_OF_FOLD)


def _options(experiment: Experiment, spec: RankerSpec, beside: Path | None) -> dict[str, Any]:
    options = dict(spec.settings.options)
    if spec.command:
        options["folder"] = str(spec.run(experiment.paths, None).out)
    if spec.learns_at_once:
        options |= fitted(spec.settings.kind, experiment.questions)
    if "folder" in options:
        options["folder"] = _path(options["folder"], beside, there=bool(spec.command))
    if "base" in options:
        options["base"] = _path(options["base"], beside, there=False)
    return {"options": options} if options else {}


def _path(path: str | Path, beside: Path | None, *, there: bool = True) -> str:
    """``there`` is false for what may be the name of an attached input."""
    if beside is None or not (there or Path(path).is_dir()):
        return str(path)
    return os.path.relpath(path, beside)


def lines_of(keys: dict[str, Any]) -> list[str]:
    """YAML, one ranker per line."""
    lines = ["rankers:"]
    for ranker in keys["rankers"]:
        flat = yaml.safe_dump(ranker, default_flow_style=True, sort_keys=False, width=10_000).strip()
        lines.append(f"  - {flat}")
    return [*lines, *(f"{key}: {keys[key]}" for key in keys if key != "rankers")]


def train_all(experiment: Experiment, mixture: Mixture, folds: Folds) -> Path:
    """Train the selected rankers on all questions, and write ``solution.yaml`` next to them.

    ``held_out`` still sets aside a share of the questions to choose the best checkpoint by; 0 trains on all.
    """
    from training.rankers.train import train_ranker

    keys = {**found_by(experiment, mixture, experiment.folder), "out_of_fold": OUT_OF_FOLD}
    _write_out_of_fold(experiment, mixture, folds)
    for spec, _ in selected_rankers(experiment, mixture):
        if spec.command:
            say(f"{spec.name}: training on all questions")
            train_ranker(spec.command, spec.run(experiment.paths, None))
            forget_training()
    unchanged = experiment.solution.model_dump(mode="json", exclude_unset=True, exclude=_NOT_COPIED)
    at(unchanged, ["index", *keys_of(Solution)[1]], lambda path: _path(path, experiment.folder, there=False))
    lines = [
        "# python -m inference submit --config THIS --questions test.csv --out submission.csv",
        *(yaml.safe_dump(unchanged, sort_keys=False).splitlines() if unchanged else []),
        *lines_of(keys),
    ]
    path = experiment.folder / SOLUTION
    with whole_file(path) as aside:
        aside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
