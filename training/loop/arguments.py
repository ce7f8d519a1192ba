"""The arguments that every trainer of transformers is given, from the settings of a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from training.loop.precision import mixed_precision
from training.loop.settings import Schedule, TrainingSettings

# Log lines per epoch.
_LOGS = 10


def arguments_of(
    settings: TrainingSettings, device: str, folder: Path, batches: int, *, metric: str | None, greater: bool
) -> dict[str, Any]:
    """Keyword arguments of ``TrainingArguments``; of what they leave out, the trainer's defaults hold.

    Parameters
    ----------
    folder : where checkpoints are kept.
    batches : of an epoch, in one process.
    metric : what checkpoints are chosen by; ``None``: nothing is evaluated.
    greater : whether more of it is better.
    """
    steps = batches / settings.accumulate
    every = max(1, math.ceil(steps / settings.evaluations))
    half = mixed_precision(settings, device)
    return {
        "output_dir": str(folder), "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch,
        "gradient_accumulation_steps": settings.accumulate, "learning_rate": settings.learning_rate,
        **_decay(settings.schedule, greater=greater), "warmup_steps": settings.warmup,
        "weight_decay": settings.weight_decay, "seed": settings.seed, "data_seed": settings.seed,
        "save_strategy": "steps", "save_steps": every, "save_total_limit": 2,
        **(_evaluation(every, metric, greater=greater) if metric else {"eval_strategy": "no"}),
        "logging_steps": max(1, int(steps // _LOGS)), "logging_nan_inf_filter": False,
        "dataloader_pin_memory": False, "disable_tqdm": True, "use_cpu": device == "cpu",
        "report_to": "wandb" if settings.report_to == "wandb" else "none",
        "fp16": half == "fp16", "bf16": half == "bf16",
    }  # fmt: skip


def _evaluation(every: int, metric: str, *, greater: bool) -> dict[str, Any]:
    return {
        "eval_strategy": "steps", "eval_steps": every, "load_best_model_at_end": True,
        "metric_for_best_model": f"eval_{metric}", "greater_is_better": greater,
    }  # fmt: skip


def _decay(schedule: Schedule, *, greater: bool) -> dict[str, Any]:
    """A schedule as the trainer's arguments; ``greater``: the metric that a plateau is one of grows."""
    if schedule != "plateau":
        return {"lr_scheduler_type": schedule}
    # Without eps 0 a rate below 2e-8 stays as it is.
    kwargs = {"mode": "max" if greater else "min", "factor": 0.5, "patience": 1, "eps": 0.0}
    return {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": kwargs}
