"""Which weights learn, and how fast: frozen parts, layer-wise rates, a moving average."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from kaggle_rag.errors import ConfigError

# bert.encoder.layer.3.…, model.layers.3.…, encoder.block.3.…
_LAYER = re.compile(r"\.(?:layer|layers|block|blocks|h)\.(\d+)\.")
_EMBEDDINGS = re.compile(r"(?:^|\.)(?:embeddings|embed_tokens|shared|wte|wpe|embed_positions)\.")
EMA = "ema.safetensors"


def depth_of(name: str, layers: int) -> int:
    """Where a weight stands: 0 for embeddings, 1 to ``layers`` in a layer, ``layers + 1`` for a head."""
    if found := _LAYER.search(name):
        return int(found[1]) + 1
    return 0 if _EMBEDDINGS.search(name) else layers + 1


def layers_of(model: Any) -> int:
    """How many layers a backbone has, by the names of its weights."""
    return max(
        (int(m[1]) + 1 for name, _ in model.named_parameters() if (m := _LAYER.search(name))), default=0
    )


def freeze(model: Any, layers: int, *, embeddings: bool) -> None:
    """Take the lowest layers, and the embeddings, out of the training.

    Raises
    ------
    ConfigError : the backbone has fewer layers.
    """
    there = layers_of(model)
    if layers > there:
        raise ConfigError(f"the backbone has {there} layers", where="frozen_layers", expected=f"0 to {there}")
    for name, weight in model.named_parameters():
        depth = depth_of(name, there)
        if (depth == 0 and embeddings) or 0 < depth <= layers:
            weight.requires_grad_(False)


def rate_groups(
    model: Any, decayed: set[str], rate: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups of an optimizer, each layer slower than the one above it.

    Source: ULMFiT's discriminative fine-tuning (Howard and Ruder 2018, section 3.2), with a constant
    factor as in ELECTRA (Clark et al. 2020, appendix B).
    """
    layers = layers_of(model)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        depth, decays = depth_of(name, layers), name in decayed
        group = groups.setdefault(
            (depth, decays),
            {
                "params": [],
                "lr": rate * layer_decay ** (layers + 1 - depth),
                "weight_decay": weight_decay if decays else 0.0,
            },
        )
        group["params"].append(weight)
    return [groups[key] for key in sorted(groups)]


class MovingAverage:
    """An exponential moving average of the weights that are trained (Polyak and Juditsky 1992).

    The decay rises from 0 to its full value, so that the first steps are forgotten:
    ``min(decay, (1 + step) / (10 + step))``.
    """

    def __init__(self, model: Any, decay: float) -> None:
        self.model, self.decay, self.step = model, decay, 0
        self.average = {name: weight.detach().clone() for name, weight in self._trained()}

    def _trained(self) -> Iterator[tuple[str, Any]]:
        return ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)

    def update(self) -> None:
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        for name, weight in self._trained():
            self.average[name].lerp_(weight.detach(), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with the averaged weights, for as long as the block lasts."""
        kept = {name: weight.detach().clone() for name, weight in self._trained()}
        self.put(self.average)
        try:
            yield
        finally:
            self.put(kept)

    def put(self, weights: dict[str, torch.Tensor]) -> None:
        for name, weight in self._trained():
            weight.data.copy_(weights[name])

    def save(self, folder: Path) -> None:
        step = torch.tensor(self.step)
        save_file({**{name: w.contiguous() for name, w in self.average.items()}, "step": step}, folder / EMA)

    def load(self, folder: Path) -> None:
        found = load_file(folder / EMA)
        self.step = int(found.pop("step"))
        for name, weight in found.items():
            self.average[name].copy_(weight)
