"""sentence-transformers' trainers, made silent, resumable bit for bit, and stopped by a non-finite loss."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.utils import logging as transformers_logging

from kaggle_rag.runtime.console import progress
from kaggle_rag.runtime.errors import ConfigError
from training.loop.settings import CALIBRATED_LOSS

# What they warn about (a new head, no model card) is reported here in our own words.
transformers_logging.set_verbosity_error()
logging.getLogger("sentence_transformers").setLevel(logging.ERROR)


class TrainerMixin:
    """Overrides shared by both trainers; goes before the trainer's own class.

    No model card (it asks the hub about the base model), no pickled arguments in a checkpoint, and no
    non-finite weights.
    """

    args: Any
    model: Any
    state: Any
    processing_class: Any

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Add no model card."""

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]
        # Raised before the optimizer's step: the weights are still those before this batch.
        if not torch.isfinite(loss):
            raise self._diverged(f"the loss is {float(loss)}")
        return loss

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if not self.args.should_save:
            return
        if not all(bool(torch.isfinite(weight).all()) for weight in self.model.parameters()):
            raise self._diverged("weights are no longer finite")
        self.write_weights(Path(output_dir or self.args.output_dir), state_dict)

    def write_weights(self, folder: Path, state: Any) -> None:
        """``state`` is the full state dict where the weights are sharded across processes."""
        self.model.save_pretrained(str(folder), create_model_card=False)

    def _load_best_model(self) -> None:
        # The state holds the path it was saved under, and the folder may have moved since; if the best
        # model cannot be loaded, the last one must not pass for it.
        if self.state.best_global_step:
            best = str(Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}")
            self.state.best_model_checkpoint = best
            if getattr(self, "is_deepspeed_enabled", False):
                # Its weights are sharded across the processes, and so are its checkpoints.
                super()._load_best_model()  # type: ignore[misc]
            else:
                self._load_from_checkpoint(best)  # type: ignore[attr-defined]

    def _diverged(self, what: str) -> ConfigError:
        found = Path(self.args.output_dir).glob("checkpoint-*")
        good = sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))
        return ConfigError(
            f"{what} at step {self.state.global_step + 1:,}",
            expected="a loss that stays finite",
            cure="lower --learning-rate (and delete the work folder), or look for malformed texts; "
            + (f"the last good checkpoint is {good[-1]}" if good else "no checkpoint was written yet"),
        )


class Patience(EarlyStoppingCallback):  # type: ignore[misc]
    """Early stopping whose count continues where a killed run left off; the library restarts at 0."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        self.early_stopping_patience_counter = _since_best(state)

    def exhausted(self, state: Any) -> bool:
        """Whether a trainer in this state has run out of patience."""
        return bool(_since_best(state) >= self.early_stopping_patience)


def _since_best(state: Any) -> int:
    """The number of evaluations since the best one."""
    evaluated = [line["step"] for line in state.log_history if any("@" in key for key in line)]
    return sum(step > (state.best_global_step or 0) for step in evaluated)


class LastLook(TrainerCallback):  # type: ignore[misc]
    """Evaluate and save after the last step too: transformers 5.0 does not, later releases do."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = args.eval_strategy != "no"
            control.should_save = True


def curves(out: Path) -> TrainerCallback:
    """TensorBoard's files, beside the model because the work folder is deleted after training."""
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    return TensorBoardCallback(SummaryWriter(str(out.with_name(out.name + ".curves"))))


class Progress(TrainerCallback):  # type: ignore[misc]
    """A progress bar (off a terminal, a line every ten seconds) with the loss, and a line per evaluation."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self.speak = say

    bar: Any = None
    loss = ""

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self.bar is None:
            self.speak(line)
            return
        self.bar.clear()
        self.speak(line)
        self.bar.refresh()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.bar = progress(state.max_steps, "train", "step", initial=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if "loss" in (logs := kwargs["logs"]):
            self.loss = f"loss {logs['loss']:.4f}"
            if self.bar is not None:
                self.bar.set_postfix_str(self.loss, refresh=False)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        metrics = kwargs["metrics"]
        named = {key.removeprefix("eval_"): value for key, value in metrics.items()}
        figures = {key: value for key, value in named.items() if "@" in key or key == CALIBRATED_LOSS}
        self.say(f"step {state.global_step:,}: " + ", ".join(filter(None, [self.loss, show(figures)])))


def show(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def seconds_per_step(trainer: Any) -> float:
    """Time of one batch, forward and backward, after a warm-up batch; no weight changes."""
    batches = iter(trainer.get_train_dataloader())
    elapsed = 0.0
    for _ in range(2):
        batch = next(batches, None)
        if batch is None:
            break
        trainer.model.train()
        start = time.perf_counter()
        trainer.compute_loss(trainer.model, batch).backward()
        elapsed = time.perf_counter() - start
        trainer.model.zero_grad()
    return elapsed
