"""The steps of a run, the same for both kinds: dataset, first evaluation, training, the best weights."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.processes import processes
from training.loop.loop import evaluations_of, train
from training.loop.run_folder import Run, require_room
from training.retrieval.dataset import FILE, RetrievalDataset
from training.retrieval.settings import RerankerSettings, RetrieverSettings

MakeTrainer = Callable[[RetrievalDataset, Path], Any]


def learn(
    run: Run,
    make_dataset: Callable[[], RetrievalDataset],
    make_trainer: MakeTrainer,
    save: Callable[[Path], object],
) -> dict[str, Any]:
    """Train from the last complete checkpoint, if there is one, and return the record of the finished run.

    The dataset is built once and stored, so that a resumed run trains on the same data.
    """
    if processes() > 1:
        raise ConfigError(
            "retrievers and re-rankers are trained in one process", where="accelerate launch",
            cure="start it with python -m training; infonce-cached allows a batch of any size",
        )  # fmt: skip
    from training.loop.trainer import show

    with run.begun() as work:
        if not (work / FILE).exists():
            make_dataset().write(work)
        dataset = RetrievalDataset.read(work)
        say(", ".join(f"{count:,} {name}" for name, count in dataset.notes.items()))
        trainer = make_trainer(dataset, work)
        require_room(work, trainer.model)
        before = trainer.evaluator() if trainer.evaluator else {}
        if before:
            say("before: " + show(before))
        last = run.last_checkpoint()
        if last:
            say(f"resuming from {last.name}")
        start = time.perf_counter()
        train(trainer, last)
        result = {
            "before": before,
            "after": trainer.evaluator() if trainer.evaluator else {},
            "steps": trainer.state.global_step,
            "best step": trainer.state.best_global_step or trainer.state.global_step,
            "seconds": round(time.perf_counter() - start, 1),
            "evaluations": evaluations_of(trainer),
            "notes": dataset.notes,
        }
        return run.finish(save, result, dataset.marks)


def dry_run(
    settings: RetrieverSettings | RerankerSettings,
    make_dataset: Callable[[], RetrievalDataset],
    make_trainer: MakeTrainer,
) -> dict[str, Any]:
    """Estimate a run from one batch and one evaluation; no weight changes, nothing is written."""
    from training.loop.trainer import seconds_per_step

    dataset = make_dataset()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(dataset, Path(folder))
        start = time.perf_counter()
        before = trainer.evaluator() if trainer.evaluator else {}
        evaluating = time.perf_counter() - start
        batch = seconds_per_step(trainer)
        batches = len(trainer.get_train_dataloader())
    epoch_steps = math.ceil(batches / settings.accumulate)
    # One evaluation before, one after, and those in between.
    evaluations = math.ceil(settings.epochs * settings.evaluations) + 2 if before else 0
    return {
        "dry run": True,
        "before": before,
        "steps": math.ceil(settings.epochs * epoch_steps),
        "steps an epoch": epoch_steps,
        "seconds": round(batch * batches * settings.epochs + evaluating * evaluations, 1),
        "notes": dataset.notes,
    }
