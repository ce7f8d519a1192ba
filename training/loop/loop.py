"""The order of a run, the same for both kinds: material, a first evaluation, learning, the best weights."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from kaggle_rag.runtime.errors import ArtifactError, ConfigError
from training.loop.run_folder import Run, processes, require_room, say
from training.retrieval.dataset import FILE, Material
from training.retrieval.settings import RerankerSettings, RetrieverSettings

MakeTrainer = Callable[[Material, Path], Any]


def duration(seconds: float) -> str:
    """As a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def learn(
    run: Run,
    make_material: Callable[[], Material],
    make_trainer: MakeTrainer,
    save: Callable[[Path], object],
) -> dict[str, Any]:
    """Train from the last whole checkpoint, if there is one, and give the record of the finished run.

    What is learnt from is made once and kept, so that a resumed run learns from the same.
    """
    if processes() > 1:
        raise ConfigError(
            "retrievers and re-rankers are trained in one process", where="accelerate launch",
            cure="start it by python -m training; infonce-cached makes the batch as large as you like",
        )  # fmt: skip
    from training.loop.trainer import show

    with run.begun() as work:
        if not (work / FILE).exists():
            make_material().write(work)
        material = Material.read(work)
        say(", ".join(f"{count:,} {name}" for name, count in material.notes.items()))
        trainer = make_trainer(material, work)
        require_room(work, trainer.model)
        before = trainer.evaluator() if trainer.evaluator else {}
        if before:
            say("before: " + show(before))
        last = run.last_checkpoint()
        if last:
            say(f"going on from {last.name}")
        start = time.perf_counter()
        train(trainer, last)
        result = {
            "before": before,
            "after": trainer.evaluator() if trainer.evaluator else {},
            "steps": trainer.state.global_step,
            "best step": trainer.state.best_global_step or trainer.state.global_step,
            "seconds": round(time.perf_counter() - start, 1),
            "evaluations": _evaluations(trainer),
            "notes": material.notes,
        }
        return run.finish(save, result)


def train(trainer: Any, last: Path | None) -> None:
    """Learn, from a checkpoint where there is one; raise ``ArtifactError`` for one that is damaged."""
    from transformers import TrainerState

    from training.loop.trainer import Patience

    if last:
        state = TrainerState.load_from_json(str(last / "trainer_state.json"))
        if any(isinstance(c, Patience) and c.lost(state) for c in trainer.callback_handler.callbacks):
            # It was killed when it had just lost its patience.
            trainer.state = state
            trainer._load_best_model()
            return
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        if trainer.state.best_global_step and not trainer.state.best_model_checkpoint:
            # The folder was moved, and nothing was saved since: the library does not look for it.
            trainer._load_best_model()
    except UnpicklingError as error:
        # The library reads the optimizer's state with weights_only: tensors and numbers, no objects.
        raise ArtifactError(
            "the checkpoint holds more than numbers, or is damaged",
            where=last or "",
            cure="remove that folder; the run then goes on from the checkpoint before it, or from the start",
        ) from error


def _evaluations(trainer: Any) -> list[dict[str, Any]]:
    """The figures of every evaluation, those before an interruption too (the trainer's state keeps them)."""
    return [
        {"step": line["step"], **{k.removeprefix("eval_"): v for k, v in line.items() if "@" in k}}
        for line in trainer.state.log_history
        if any("@" in key for key in line)
    ]


def dry_run(
    settings: RetrieverSettings | RerankerSettings,
    make_material: Callable[[], Material],
    make_trainer: MakeTrainer,
) -> dict[str, Any]:
    """What a run would take, by one batch and one evaluation; no weight changes, nothing is written."""
    from training.loop.trainer import seconds_a_step

    material = make_material()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(material, Path(folder))
        start = time.perf_counter()
        before = trainer.evaluator() if trainer.evaluator else {}
        judging = time.perf_counter() - start
        batch = seconds_a_step(trainer)
        batches = len(trainer.get_train_dataloader())
    an_epoch = math.ceil(batches / settings.accumulate)
    # One evaluation before, one after, and those between.
    evaluations = math.ceil(settings.epochs * settings.evaluations) + 2 if before else 0
    return {
        "dry run": True,
        "before": before,
        "steps": math.ceil(settings.epochs * an_epoch),
        "steps an epoch": an_epoch,
        "seconds": round(batch * batches * settings.epochs + judging * evaluations, 1),
        "notes": material.notes,
    }
