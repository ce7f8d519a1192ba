"""Bottleneck adapters: two small layers after attention and feed-forward (peft has none).

Source: Houlsby et al. 2019, https://arxiv.org/abs/1902.00751, section 2.1. They are hooked onto the
output layers, so that no weight of the backbone is renamed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from kaggle_rag.models.own_adapters import require_names
from kaggle_rag.runtime.errors import ConfigError

# The layers whose output is added to the residual: BERT's, Llama's and T5's.
_ENDS = re.compile(r"\.(output\.dense|o_proj|down_proj|o|wo|Wo|out_proj|fc2|out_lin|lin2)$")
_IN_A_LAYER = re.compile(r"\.\d+\.")


@dataclasses.dataclass(frozen=True)
class BottleneckConfig:
    """Settings of the adapters.

    ``size`` is the width between the two layers; ``target_modules`` the last names of the layers they
    follow (empty: the end of every attention and feed-forward); ``modules_to_save`` modules that are
    trained in full and stored with the adapters, such as a new head.
    """

    size: int = 16
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] | None = None

    NAME: ClassVar[str] = "bottleneck"
    WHY_NOT_MERGED: ClassVar[str] = "bottleneck layers are not a change of weights"

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"size: an integer of at least 1, not {self.size!r}")
        if isinstance(self.dropout, bool) or not 0 <= float(self.dropout) < 1:
            raise ValueError(f"dropout: a number of at least 0 and below 1, not {self.dropout!r}")
        require_names(self, "target_modules", "modules_to_save")

    def attach(self, model: Any, folder: Path | None) -> None:
        """Hook the adapters onto the ends of attention and feed-forward.

        Raises
        ------
        ConfigError : no layer of the model has such a name.
        """
        ends = list(_ends(model, self))
        if not ends:
            raise ConfigError(
                "no layer that adapters could follow", where="peft.options.target_modules",
                expected="one of " + ", ".join(linear_names(model)),
            )  # fmt: skip
        for end in ends:
            end.add_module("bottleneck", Bottleneck(end.out_features, self).to(end.weight.device))
            end.register_forward_hook(_apply)

    def save_parts(self, model: Any, folder: Path) -> None:
        """Nothing: settings and weights are all."""


def linear_names(model: Any) -> list[str]:
    """The last names of a model's linear layers, which ``target_modules`` may name."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return sorted({name.rpartition(".")[2] for name in linear})


class Bottleneck(nn.Module):  # type: ignore[misc]
    """``h + up(gelu(down(h)))``; ``up`` starts at 0, so that the backbone first answers as before."""

    def __init__(self, wide: int, config: BottleneckConfig) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(wide, config.size), nn.Linear(config.size, wide)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.down.weight, std=0.02)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        inner = self.down(hidden.to(self.down.weight.dtype))
        return hidden + self.up(self.dropout(nn.functional.gelu(inner))).to(hidden.dtype)


def _ends(model: Any, config: BottleneckConfig) -> Iterator[Any]:
    for name, part in model.named_modules():
        if not isinstance(part, nn.Linear) or not _IN_A_LAYER.search(name):
            continue
        named = name.rpartition(".")[2] in config.target_modules
        if named if config.target_modules else _ENDS.search(name):
            yield part


def _apply(end: Any, _: Any, hidden: torch.Tensor) -> torch.Tensor:
    adapted: torch.Tensor = end.bottleneck(hidden)
    return adapted
