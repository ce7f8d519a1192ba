"""Low-rank adapters as PEFT saves them, added to each weight as it arrives (Hu et al. 2021).

A weight becomes ``W + s B A`` (https://arxiv.org/abs/2106.09685, section 4.1) with ``s = alpha / r``, or
``alpha / sqrt(r)`` if rank-stabilized (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kaggle_rag.runtime.errors import CheckpointError, ConfigError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
# Settings that change what is computed in a way that adding B A to a weight does not show.
_OTHER = (
    "use_dora", "use_qalora", "layer_replication", "alora_invocation_tokens", "target_parameters",
    "trainable_token_indices", "lora_bias", "arrow_config", "megatron_config",
)  # fmt: skip
# First values of A and B that leave the base's weights as they are; others (PiSSA, OLoRA) change them.
_PLAIN = (True, False, "gaussian", "orthogonal", "eva")
_CURE = "load the whole model with its adapter"


class _Delta(NamedTuple):
    """``scale b a``, of ``b (out, r)`` and ``a (r, in)``."""

    a: torch.Tensor
    b: torch.Tensor
    scale: float


class Lora:
    """An adapter's matrices, and the modules that it saves whole.

    Attributes
    ----------
    folder : with ``adapter_config.json`` and ``adapter_model.safetensors``.
    replaced : weights that are the adapter's own (``modules_to_save``), by name.

    Raises
    ------
    ConfigError : an adapter of another method.
    CheckpointError : a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._config = _config(folder)
        saved = _tensors(folder)
        matrices = {name: tensor for name, tensor in saved.items() if ".lora_" in name}
        self.replaced = {name: tensor for name, tensor in saved.items() if name not in matrices}
        self._deltas: dict[str, _Delta] = {}
        for module in dict.fromkeys(name.partition(".lora_")[0] for name in matrices):
            pair = [matrices.pop(f"{module}.lora_{side}.weight", None) for side in "AB"]
            if pair[0] is None or pair[1] is None:
                break
            self._deltas[f"{module}.weight"] = _Delta(pair[0], pair[1], self._scale(module, len(pair[0])))
        if matrices:
            raise ConfigError(
                f"cannot add {next(iter(matrices))} to a weight", where=folder / WEIGHTS,
                expected="lora_A.weight and lora_B.weight of linear layers", cure=_CURE,
            )  # fmt: skip

    def require_fitting(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise ``CheckpointError`` unless the base has a weight of fitting shape for all the adapter has."""
        own = {name: (len(delta.b), delta.a.shape[1]) for name, delta in self._deltas.items()}
        own |= {name: tuple(tensor.shape) for name, tensor in self.replaced.items()}
        for name, shape in own.items():
            if shapes.get(name) != shape:
                raise CheckpointError(
                    f"this adapter is for another base: it changes {name} of the shape {shape}",
                    where=self.folder,
                    expected=f"{shapes[name]}" if name in shapes else "a weight that the base has",
                    cure="name the backbone that it was trained on "
                    f"({self._config.get('base_model_name_or_path')})",
                )

    def merged(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """The weight with what is added to it, in its own type; the sum is made in float32."""
        if (delta := self._deltas.get(name)) is None:
            return weight
        a, b = (side.to(weight.device, torch.float32) for side in (delta.a, delta.b))
        return torch.addmm(weight.float(), b, a, alpha=delta.scale).to(weight.dtype)

    def _scale(self, module: str, rank: int) -> float:
        alphas: dict[str, float] = self._config.get("alpha_pattern") or {}
        # As PEFT finds it: the first pattern that the module's name ends with.
        own = next((key for key in alphas if re.match(rf"(.*\.)?({key})$", module)), None)
        alpha = alphas[own] if own is not None else self._config["lora_alpha"]
        return float(alpha / (math.sqrt(rank) if self._config.get("use_rslora") else rank))


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        method = config["peft_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "this is no adapter of PEFT", where=path, expected=f"{CONFIG} beside {WEIGHTS}", cure=_CURE
        ) from error
    first = config.get("init_lora_weights", True)
    other = [name for name in _OTHER if config.get(name)]
    other += [] if first in _PLAIN else [f"init_lora_weights: {first}"]
    if method != "LORA" or other:
        raise ConfigError(
            f"an adapter of the method {method}" + (f" with {', '.join(other)}" if method == "LORA" else ""),
            where=path, expected="plain or rank-stabilized LoRA", cure=_CURE,
        )  # fmt: skip
    return config


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The adapter's tensors by the base's names."""
    try:
        saved = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the adapter's weights do not load ({str(error).splitlines()[0]})", where=folder / WEIGHTS,
            cure="copy the folder again from where it was made",
        ) from error  # fmt: skip
    return {name.removeprefix(_PREFIX).replace(".base_layer.", "."): t for name, t in saved.items()}
