"""Weights of a checkpoint or a finished ranker to a folder: whole ones, an adapter of peft, or our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kaggle_rag.models.bottleneck import save_bottlenecks
from kaggle_rag.models.checkpoints import todays_name, weights
from kaggle_rag.runtime.files import whole_file


def save_weights(model: Any, folder: Path, state: Any = None) -> None:
    """Write what `kaggle_rag.models.loading.load_ranker` reads; ``state`` where no process has them all."""
    if hasattr(model, "bottlenecks"):
        save_bottlenecks(model, folder, state)
        return
    model.save_pretrained(folder, state_dict=state)
    # peft writes a card of blanks about the model for the hub.
    (folder / "README.md").unlink(missing_ok=True)
    rename(folder)


def rename(folder: Path) -> None:
    """Give the weights of a folder the names that they have in the model.

    transformers 5.0 writes those of BERT's LayerNorms by older names. Its trainer does not know them when it
    loads a checkpoint, and would go on with other weights in their place, without a word.
    """
    for path in weights(folder):
        with safe_open(path, framework="pt") as file:
            names, told = list(file.keys()), file.metadata()
        if any(todays_name(name) != name for name in names):
            tensors = {todays_name(name): tensor.clone() for name, tensor in load_file(path).items()}
            with whole_file(path) as aside:
                save_file(tensors, aside, told)
    for path in folder.glob("*.safetensors.index.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        named = {todays_name(name): part for name, part in found["weight_map"].items()}
        if named != found["weight_map"]:
            with whole_file(path) as aside:
                aside.write_text(json.dumps({**found, "weight_map": named}, indent=2), encoding="utf-8")
