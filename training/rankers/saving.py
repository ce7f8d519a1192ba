"""Save the weights of a checkpoint or finished ranker: full ones, a peft adapter, or our own adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kaggle_rag.models import own_adapters
from kaggle_rag.models.checkpoints import todays_name, weights
from kaggle_rag.runtime.files import whole_file


def save_weights(model: Any, folder: Path, state: Any = None) -> None:
    """Write what `kaggle_rag.models.loading.load_ranker` reads; ``state`` if no process has them all."""
    if own_adapters.own_adapter(model):
        own_adapters.save(model, folder, state)
        return
    model.save_pretrained(folder, state_dict=state)
    # peft writes a blank model card for the hub.
    (folder / "README.md").unlink(missing_ok=True)
    rename(folder)


def rename(folder: Path) -> None:
    """Rename the weights of a folder to their names in the model.

    transformers 5.0 writes BERT's LayerNorms under older names. Its trainer does not recognize them when it
    loads a checkpoint, and would silently continue with other weights in their place.
    """
    for path in weights(folder):
        with safe_open(path, framework="pt") as file:
            names, metadata = list(file.keys()), file.metadata()
        if any(todays_name(name) != name for name in names):
            tensors = {todays_name(name): tensor.clone() for name, tensor in load_file(path).items()}
            with whole_file(path) as aside:
                save_file(tensors, aside, metadata)
    for path in folder.glob("*.safetensors.index.json"):
        index = json.loads(path.read_text(encoding="utf-8"))
        renamed = {todays_name(name): part for name, part in index["weight_map"].items()}
        if renamed != index["weight_map"]:
            with whole_file(path) as aside:
                aside.write_text(json.dumps({**index, "weight_map": renamed}, indent=2), encoding="utf-8")
