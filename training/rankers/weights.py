"""Which weights are trained, and how fast: frozen parts, layer-wise rates, a moving average."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.words import counted

# bert.encoder.layer.3.…, model.layers.3.…, encoder.block.3.…
_LAYER = re.compile(r"(?:^|\.)(?:layer|layers|block|blocks|h|albert_layer_groups)\.(\d+)\.")
# Word and position embeddings, and what all layers share of them: DeBERTa's relative positions and their
# norm, ELECTRA's projection, T5's shared table.
_EMBEDDINGS = re.compile(
    r"(?:^|\.)(?:\w*embeddings?(?:_\w+)?|embed_\w+|shared|wte|wpe|relative_attention_bias)\."
    r"|(?:^|\.)encoder\.LayerNorm\."
)
# Virtual tokens of an adapter are new, and are trained like a head.
_NEW = re.compile(r"(?:^|\.)prompt_encoder\.")
_DECODER = re.compile(r"(?:^|\.)decoder\.(?:block|layers?)\.")
_ENCODER = re.compile(r"(?:^|\.)encoder\.(?!.*\.LayerNorm\.)")
EMA = "ema.safetensors"


def depths_of(model: Any) -> dict[str, int]:
    """The depth of each weight, by its name.

    0 for embeddings, 1 to n in a layer, n + 1 for a head. The layers of a decoder that reads an encoder
    are above those of the encoder.
    """
    names = [name for name, _ in model.named_parameters()]
    placed = {name: (int(m[1]) + 1, _is_above(name)) for name in names if (m := _LAYER.search(name))}
    lower = max((layer for layer, above in placed.values() if not above), default=0)
    upper = max((layer for layer, above in placed.values() if above), default=0)
    # A decoder without an encoder has one stack.
    base = lower if model.config.is_encoder_decoder else 0
    layers = base + upper if base else max(lower, upper)
    return {
        name: placed[name][0] + base * placed[name][1] if name in placed else _outside(name, base, layers)
        for name in names
    }


def _is_above(name: str) -> bool:
    return bool(_DECODER.search(name))


def _outside(name: str, encoder: int, layers: int) -> int:
    """The depth of a weight outside any layer."""
    if _NEW.search(name):
        return layers + 1
    if _EMBEDDINGS.search(name):
        return 0
    # The last norm of an encoder that a decoder reads.
    return encoder if encoder and _ENCODER.search(name) else layers + 1


def layers_of(depths: dict[str, int]) -> int:
    """The number of layers below the head."""
    return max((depth for name, depth in depths.items() if _LAYER.search(name)), default=0)


def freeze(model: Any, layers: int, *, embeddings: bool) -> None:
    """Freeze the lowest layers and, optionally, the embeddings.

    Raises
    ------
    ConfigError : the backbone has fewer layers.
    """
    depths = depths_of(model)
    count = layers_of(depths)
    if layers > count:
        raise ConfigError(
            f"the backbone has {counted(count, 'layer')}", where="frozen_layers", expected=f"0 to {count}"
        )
    for name, weight in model.named_parameters():
        if (depths[name] == 0 and embeddings) or 0 < depths[name] <= layers:
            weight.requires_grad_(False)


def rate_groups(
    model: Any, decayed: set[str], rate: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups of an optimizer, each layer slower than the one above.

    Source: ULMFiT's discriminative fine-tuning (Howard and Ruder 2018, section 3.2), with a constant
    factor as in ELECTRA (Clark et al. 2020, appendix B).

    Raises
    ------
    ConfigError : rates by layer are asked for, and no layers are found.
    """
    depths = depths_of(model)
    layers = layers_of(depths)
    if not layers and layer_decay < 1:
        raise ConfigError(
            "no layers are known by the names of this backbone's weights", where="layer_decay",
            cure="leave layer_decay at 1",
        )  # fmt: skip
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        depth, decays = depths[name], name in decayed
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
    """An exponential moving average of the trained weights (Polyak and Juditsky 1992).

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
        """The model with the averaged weights, inside the block."""
        current = {name: weight.detach().clone() for name, weight in self._trained()}
        self.put(self.average)
        try:
            yield
        finally:
            self.put(current)

    def put(self, weights: dict[str, torch.Tensor]) -> None:
        for name, weight in self._trained():
            weight.data.copy_(weights[name])

    def save(self, folder: Path) -> None:
        step = torch.tensor(self.step)
        save_file({**{name: w.contiguous() for name, w in self.average.items()}, "step": step}, folder / EMA)

    def load(self, folder: Path) -> None:
        saved = load_file(folder / EMA)
        self.step = int(saved.pop("step"))
        for name, weight in saved.items():
            self.average[name].copy_(weight)
