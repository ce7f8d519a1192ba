"""Weights of a checkpoint or a finished ranker to a folder: whole ones, an adapter of peft, or our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kaggle_rag.models.bottleneck import save_bottlenecks


def save_weights(model: Any, folder: Path, state: Any = None) -> None:
    """Write what `kaggle_rag.models.loading.load_ranker` reads; ``state`` where no process has them all."""
    if hasattr(model, "bottlenecks"):
        save_bottlenecks(model, folder, state)
        return
    model.save_pretrained(folder, state_dict=state)
    # peft writes a card of blanks about the model for the hub.
    (folder / "README.md").unlink(missing_ok=True)
