"""Adapters of the kit's own, which peft lacks: a table of them, and how their weights are kept."""

from __future__ import annotations

import dataclasses
import json
import pkgutil
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from safetensors.torch import load_file, save_file

from kaggle_rag.runtime.errors import ArtifactError, ConfigError
from kaggle_rag.runtime.files import write_json


class OwnAdapter(Protocol):
    """The settings of such an adapter: a frozen dataclass.

    ``NAME`` is that of its files, ``WHY_NOT_MERGED`` why it is no change of the backbone's weights.
    """

    NAME: ClassVar[str]
    WHY_NOT_MERGED: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def attach(self, model: Any, folder: Path | None) -> None:
        """Put it into a model, in place: with what ``folder`` holds besides weights, or new."""

    def save_parts(self, model: Any, folder: Path) -> None:
        """Write what is needed besides settings and weights."""


# The settings of each by the name of its files.
_KINDS = {
    "bottleneck": "kaggle_rag.models.bottleneck:BottleneckConfig",
    "knowledge": "kaggle_rag.models.knowledge:KnowledgeConfig",
}


def require_names(config: OwnAdapter, *keys: str) -> None:
    """Raise ``ValueError`` unless these settings are lists of names, or not set."""
    for key in keys:
        names = getattr(config, key)
        if names is not None and not (
            isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
        ):
            raise ValueError(f"{key}: a list of names, not {names!r}")


def own_adapter(model: Any) -> OwnAdapter | None:
    """The settings of the adapter that a model has, if it is one of the kit's own."""
    return getattr(model, "own_adapter", None)


def attach(model: Any, config: OwnAdapter, folder: Path | None = None) -> Any:
    """Put an adapter into a model, in place, and freeze everything else but its ``modules_to_save``.

    Raises
    ------
    ConfigError : it does not fit this model.
    """
    model.requires_grad_(False)
    config.attach(model, folder)
    for name in getattr(config, "modules_to_save", None) or ():
        try:
            model.get_submodule(name).requires_grad_(True)
        except AttributeError:
            raise ConfigError(
                f"the model has no module {name!r}", where="peft.options.modules_to_save",
                expected="one of " + ", ".join(dict(model.named_children())) + ", or a path such as a.b",
            ) from None  # fmt: skip
    model.own_adapter = config
    # transformers' trainer trains 4-bit weights only behind an adapter, and knows peft's alone.
    model._hf_peft_config_loaded = bool(getattr(model, "is_quantized", False))
    return model


def save(model: Any, folder: Path, state: dict[str, torch.Tensor] | None = None) -> None:
    """Write the trained weights, from ``state`` where they are sharded across processes."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.own_adapter
    state = model.state_dict() if state is None else state
    trained = {name: state[name].detach().cpu().contiguous() for name in sorted(_trained(model))}
    save_file(trained, folder / f"{config.NAME}.safetensors")
    write_json(folder / f"{config.NAME}.json", dataclasses.asdict(config))
    config.save_parts(model, folder)


def load(model: Any, folder: Path) -> None:
    """Load them into a model that has the same adapter.

    Raises
    ------
    ArtifactError : they belong to another backbone.
    """
    saved, expected = load_file(folder / f"{model.own_adapter.NAME}.safetensors"), _trained(model)
    if {name: weight.shape for name, weight in saved.items()} != expected:
        raise ArtifactError(
            "this adapter belongs to another backbone", where=folder,
            expected=f"{len(expected):,} weights of its shapes, found {len(saved):,}",
            cure="set its own backbone: options.base of the ranker",
        )  # fmt: skip
    model.load_state_dict(saved, strict=False)


def read(folder: Path) -> OwnAdapter | None:
    """The settings of the adapter in a folder; ``None`` if it is none of the kit's own.

    Raises
    ------
    ArtifactError : they are damaged.
    """
    for name, kind in _KINDS.items():
        if (path := folder / f"{name}.json").is_file():
            try:
                fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
                config: OwnAdapter = pkgutil.resolve_name(kind)(**fields)
            except (ValueError, TypeError) as error:
                raise ArtifactError(
                    f"{path.name} is damaged", where=folder, cure="copy the folder again"
                ) from error
            return config
    return None


def _trained(model: Any) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in model.named_parameters() if weight.requires_grad}
