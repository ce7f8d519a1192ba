"""Cross-validation: every question answered by rankers that saw neither it nor its near-duplicates."""

from __future__ import annotations

import collections
import dataclasses
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kaggle_rag.config import ContextSettings
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.evaluation.fold_table import Folds, write_folds
from kaggle_rag.rankers.registry import fitted, learns_at_once, make_ranker, takes_index
from kaggle_rag.rankers.seen import models_of, says_all, seen_by
from kaggle_rag.runtime.console import duration, say
from kaggle_rag.runtime.errors import ConfigError, LimitError
from kaggle_rag.runtime.files import write_json
from kaggle_rag.runtime.processes import processes
from kaggle_rag.runtime.words import counted
from training.crossval.evaluate import evaluate
from training.crossval.experiment import METRICS, OOF, Experiment
from training.crossval.final import found_by, lines_of, train_all
from training.crossval.mixing import mix
from training.crossval.ranker_spec import RankerSpec
from training.crossval.report import CrossValidationReport, DryRun, MissingFolds
from training.crossval.settings import BLEND, STACKED, CrossValidationSettings
from training.crossval.splitting import count_leaks, keep_parts, make_parts
from training.loop.memory import forget_training


class FoldJob(NamedTuple):
    """A ranker trained for one fold that answers its ``rows``, or (``None``) one that answers all."""

    spec: RankerSpec
    fold: int | None
    rows: Folds

    @property
    def name(self) -> str:
        return "all" if self.fold is None else f"fold-{self.fold}"


def cross_validate(settings: CrossValidationSettings) -> CrossValidationReport | MissingFolds:
    """Complete a cross-validation and return its report.

    With ``settings.fold``, only that fold is trained, and the result may only list the missing folds.

    Raises
    ------
    KitError : every fault of the settings and the files, before any training.
    """
    if processes() > 1:
        raise ConfigError(
            "a cross-validation runs in one process", where="accelerate launch",
            cure="run each fold in its own process, on its own GPU: --fold N",
        )  # fmt: skip
    experiment = Experiment.open(settings)
    # Folds that cannot be made leave no folder behind.
    new_parts = None if experiment.paths.folds.is_file() else make_parts(experiment)
    experiment.begin()
    parts = keep_parts(experiment, new_parts)
    seen = seen_by(_models(experiment), experiment.questions)
    for note in (*parts.notes, *_warnings(experiment), *seen.notes()):
        say("note: " + note)
    leaks = dataclasses.replace(count_leaks(experiment, parts), seen=seen)
    tables = out_of_fold(experiment, parts.folds)
    if missing := missing_folds(parts.folds, tables):
        return MissingFolds(experiment.folder, tuple(missing))
    mixture = mix(experiment, parts.folds, tables)
    notes = {"mix": STACKED if mixture.stacked else BLEND}
    Predictions.of(experiment.questions, parts.folds, mixture.tables, notes).write(experiment.folder / OOF)
    report = evaluate(experiment, parts.folds, mixture, leaks, lines_of(found_by(experiment, mixture)))
    write_json(experiment.folder / METRICS, report.as_json())
    if not settings.final:
        return report
    return dataclasses.replace(report, solution=train_all(experiment, mixture, parts.folds))


def _warnings(experiment: Experiment) -> list[str]:
    """Settings that a cross-validation does not read, and rankers whose scores may be too good."""
    given = experiment.solution.model_fields_set
    unused = [key for key in ("limits", "stack", "out_of_fold", "top") if key in given]
    return [f"{key} of the solution has no effect in a cross-validation" for key in unused] + [
        f"{spec.name} is used as is: the questions it was trained on may be among these "
        "(with train it would be trained for each fold)"
        for spec in experiment.specs
        if spec.settings.kind == "trained" and not spec.command
        and not says_all(str(spec.settings.options.get("folder")))
    ] + [
        f"{spec.name} is used as is: its options may have been fitted to these questions "
        "(left without options, it is fitted fold by fold)"
        for spec in experiment.specs
        if not spec.learns and learns_at_once(spec.settings.kind, {})
    ]


def _models(experiment: Experiment) -> list[str]:
    """The backbones that each fold starts from, and what is used as it is."""
    trained = [spec.run(experiment.paths, None).model for spec in experiment.specs if spec.command]
    others = [spec.settings for spec in experiment.specs if not spec.command]
    return [*trained, *models_of(experiment.solution, others, search=False)]


def missing_folds(folds: Folds, tables: dict[str, Probabilities]) -> list[int]:
    """Folds that other sessions have yet to train."""
    unanswered = [folds[np.isnan(table).any(axis=1)] for table in tables.values()]
    return [int(fold) for fold in np.unique(np.concatenate(unanswered))]


def out_of_fold(experiment: Experiment, folds: Folds) -> dict[str, Probabilities]:
    """Each ranker's probabilities, ``(n, k)``; NaN in the rows of folds that are left to other sessions."""
    tables = {
        e.name: np.full(experiment.questions.present.shape, np.nan, np.float32) for e in experiment.specs
    }
    jobs = list(_jobs(experiment, folds))
    pace = _Pace([job.spec.name for job in jobs])
    for job in jobs:
        made_by = job.spec.made_by(experiment.solution, experiment.paths, job.fold)
        path = experiment.folder / job.spec.name / f"{job.name}.parquet"
        predictions = Predictions.read(path) if path.is_file() else None
        if predictions is None or predictions.notes["made by"] != made_by:
            if experiment.settings.fold is not None and job.fold not in (None, experiment.settings.fold):
                continue
            predictions = _answer(experiment, job, made_by)
            predictions.write(path)
        pace.done(job.spec.name, job.name, predictions.notes["seconds"])
        tables[job.spec.name][job.rows] = predictions.tables[job.spec.name]
    return tables


def _jobs(experiment: Experiment, folds: Folds) -> Iterator[FoldJob]:
    """Fold by fold, all rankers in each, so that a fault in any of them shows early."""
    all_rows = np.arange(len(folds))
    yield from (FoldJob(spec, None, all_rows) for spec in experiment.specs if not spec.learns)
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        yield from (FoldJob(spec, int(fold), rows) for spec in experiment.specs if spec.learns)


def _answer(experiment: Experiment, job: FoldJob, made_by: dict[str, Any]) -> Predictions:
    """The probabilities of a job's rows, by a ranker that was not trained on them."""
    start = time.perf_counter()
    kind, options, earlier = job.spec.settings.kind, dict(job.spec.settings.options), 0.0
    if kind == "trained":
        options.setdefault("device", experiment.solution.device)
    if job.spec.command is not None and job.fold is not None:
        from training.rankers.train import train_ranker

        run = job.spec.run(experiment.paths, job.fold)
        earlier = float(train_ranker(job.spec.command, run)["result"]["seconds"])
        forget_training()
        options["folder"] = str(run.out)
    if job.spec.learns_at_once:
        others = np.setdiff1d(np.arange(len(experiment.questions)), job.rows)
        options |= fitted(kind, experiment.questions.take(others))
    questions = experiment.questions.take(job.rows)
    contexts = experiment.contexts and [experiment.contexts[row] for row in job.rows]
    with make_ranker(kind, options, **_shared(experiment, kind)) as ranker:
        table = ranker.probabilities(questions, contexts)
    if lost := int(np.isnan(table).any(axis=1).sum()):
        raise LimitError(
            f"{job.spec.name} left {counted(lost, 'question')} without an answer",
            expected="memory for what overflows in half precision", cure="set its option precision: fp32",
        )  # fmt: skip
    # A finished run that is reused took its time earlier.
    seconds = round(max(earlier, time.perf_counter() - start), 1)
    fold = np.full(len(job.rows), -1 if job.fold is None else job.fold)
    return Predictions.of(questions, fold, {job.spec.name: table}, {"made by": made_by, "seconds": seconds})


def _shared(experiment: Experiment, kind: str) -> dict[str, Any]:
    """The encoder and the index, for a ranker that may use them."""
    if not takes_index(kind):
        return {}
    from kaggle_rag.rankers.resources import Resources

    # The contexts exist already: no further retriever is needed.
    resources = Resources.open(experiment.solution.model_copy(update={"contexts": ContextSettings()}))
    return {"encoder": resources.encoder, "index": resources.index}


class _Pace:
    """Reports after each job how many are left, and how long they take once one of each ranker is done."""

    def __init__(self, rankers: Sequence[str]) -> None:
        self.left = collections.Counter(rankers)
        self.count = len(rankers)
        self.seconds: dict[str, float] = {}

    def done(self, ranker: str, job: str, seconds: float) -> None:
        self.left[ranker] -= 1
        self.seconds[ranker] = seconds
        open_jobs = +self.left
        left = open_jobs.total()
        status = f"{left} to go" if left else "all done"
        if left and open_jobs.keys() <= self.seconds.keys():
            status += ", about " + duration(sum(n * self.seconds[name] for name, n in open_jobs.items()))
        say(f"[{self.count - left}/{self.count}] {ranker}, {job}: {duration(seconds)}; {status}")


def dry_run(settings: CrossValidationSettings) -> DryRun:
    """The folds, and the training time as estimated from one batch of each ranker; nothing is stored."""
    from training.rankers.train import dry_run as one_run

    experiment = Experiment.open(settings)
    parts = make_parts(experiment)
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = experiment.paths._replace(folder=Path(folder), folds=Path(folder) / "folds.parquet")
        write_folds(paths.folds, experiment.questions, parts.folds)
        for spec in experiment.specs:
            if spec.command:
                say(f"{spec.name}: one batch of fold 0")
                seconds[spec.name] = one_run(spec.run(paths, 0))["seconds"] * settings.folds
    folds = tuple(np.bincount(parts.folds).tolist())
    return DryRun(folds, len(parts.pairs), parts.notes, len(seconds) * settings.folds, seconds)
