"""Training from a checkpoint or from scratch, and the metrics of its evaluations."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from kaggle_rag.runtime.errors import ArtifactError


def train(trainer: Any, last: Path | None) -> None:
    """Train, from checkpoint ``last`` if given; raise ``ArtifactError`` if it is damaged."""
    from transformers import TrainerState

    from training.loop.trainer import Patience

    if last:
        state = TrainerState.load_from_json(str(last / "trainer_state.json"))
        _require_same_metric(trainer, state, last)
        if any(isinstance(c, Patience) and c.exhausted(state) for c in trainer.callback_handler.callbacks):
            # It was killed just after its patience ran out.
            trainer.state = state
            trainer._load_best_model()
            return
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        if trainer.state.best_global_step and not trainer.state.best_model_checkpoint:
            # The folder was moved and nothing has been saved since, so the library does not look for it.
            trainer._load_best_model()
    except UnpicklingError as error:
        # The library reads the optimizer's state with weights_only: tensors and numbers, no objects.
        raise ArtifactError(
            "the checkpoint is damaged, or contains more than numbers",
            where=last or "",
            cure="delete that folder; the run then resumes from the previous checkpoint, or starts over",
        ) from error


def _require_same_metric(trainer: Any, state: Any, last: Path) -> None:
    """Refuse a run whose best checkpoint was chosen by a metric of an earlier version."""
    metric = trainer.args.metric_for_best_model
    if metric and state.best_metric is not None and not any(metric in line for line in state.log_history):
        raise ArtifactError(
            "this run was begun by an earlier version, which chose its checkpoint by another metric",
            where=last.parent, expected=metric.removeprefix("eval_"),
            cure="delete that folder, and start the run again",
        )  # fmt: skip


def evaluations_of(trainer: Any) -> list[dict[str, Any]]:
    """The metrics of every evaluation, including those before an interruption (the state stores them)."""
    return [
        {"step": line["step"], **{k.removeprefix("eval_"): v for k, v in line.items() if "@" in k}}
        for line in trainer.state.log_history
        if any("@" in key for key in line)
    ]


