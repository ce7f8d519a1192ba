"""Learning from a checkpoint, or from the start, and what its evaluations found."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from kaggle_rag.runtime.errors import ArtifactError


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
            cure="remove that folder; the run then resumes from the checkpoint before it, or from the start",
        ) from error


def evaluations_of(trainer: Any) -> list[dict[str, Any]]:
    """The figures of every evaluation, those before an interruption too (the trainer's state keeps them)."""
    return [
        {"step": line["step"], **{k.removeprefix("eval_"): v for k, v in line.items() if "@" in k}}
        for line in trainer.state.log_history
        if any("@" in key for key in line)
    ]


