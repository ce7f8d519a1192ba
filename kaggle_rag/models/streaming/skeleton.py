"""A decoder without weights that is filled a part at a time: what precedes its layers, each layer, its head.

The model's own ``forward`` runs for every part: it makes masks, rotary embeddings and what else its family
gives a layer, and every layer but the one at hand lets the hidden states through. So no family is written
twice, and none needs code of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from kaggle_rag.models import packed_attention, packing
from kaggle_rag.models.answering.base import AnswerForm
from kaggle_rag.models.description import config_of
from kaggle_rag.models.loading import require_4bit
from kaggle_rag.models.packed_attention import Batch
from kaggle_rag.runtime.errors import ConfigError

Weights = dict[str, torch.Tensor]


class Skeleton:
    """The modules of a model, its parameters on the meta device and its buffers on ``device``.

    Parameters
    ----------
    auto : the transformers class that knows the model, such as ``"AutoModelForCausalLM"``.
    config : of the model; its ``quantization_config``, if any, is not looked at.
    dtype : of the weights.

    Attributes
    ----------
    parts : the names of the weights that each part needs, by their place in a pass: first what precedes the
        layers, then each layer, last what follows them.
    tied : names of weights that are another's, and that other's.

    Raises
    ------
    ConfigError : packed rows mean nothing to the model, or it has no list of layers.
    """

    def __init__(self, auto: str, config: Any, dtype: torch.dtype, device: str) -> None:
        with _weightless():
            model = getattr(transformers, auto).from_config(config, dtype=dtype, trust_remote_code=False)
        self.model, self.device = model.eval(), device
        if reason := packing.obstacle_in(self.model.config):
            raise ConfigError(f"this decoder's rows cannot be packed: {reason}", where=config.name_or_path)
        if self.model.config._attn_implementation == packed_attention.SDPA:
            # A model that takes no other attention keeps its own.
            with suppress(ValueError):
                packed_attention.switch(self.model, packed_attention.PACKED_SDPA)
        for module in self.model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(device))
        self._layers = _layers(self.model)
        self.tied = _tied(self.model)
        self.parts = _parts(self.model, self._layers)
        _require_one_embedding(self.model, self.parts[0])
        self._active, self._given = -1, torch.empty(0)
        for number, layer in enumerate(self._layers):
            layer.forward = self._around(number, layer.forward)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight that a part needs."""
        named = self.model.state_dict(keep_vars=True)
        return {name: tuple(named[name].shape) for part in self.parts for name in part}

    @contextmanager
    def filled(self, weights: Weights) -> Iterator[None]:
        """The weights of a part in their places; afterwards nothing here refers to them."""
        empty = {name: self._replaced(name, weight) for name, weight in weights.items()}
        try:
            yield
        finally:
            for name, before in empty.items():
                self._replaced(name, before)

    def embedded(self, batch: Batch) -> torch.Tensor:
        """What the first layer reads, ``(rows, t, hidden)``; the first part must be filled."""
        return self._reached(0, None, packing.inputs(self.model, batch))

    def through(self, layer: int, hidden: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Hidden states behind a layer, ``(rows, t, hidden)`` as before it; that layer must be filled."""
        given = packing.inputs(self.model, batch)
        del given["input_ids"]
        return self._reached(layer, hidden, {**given, "inputs_embeds": hidden})

    def outputs(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the head makes of some tokens, ``(reads, hidden)`` to ``(reads, ...)``; the last part filled.

        A language model's logits are those behind its soft capping, if it has one.
        """
        self._active, self._given = len(self._layers), hidden[None]
        scored: list[torch.Tensor] = []
        # A classification model keeps only the output at the end of a row.
        head = self.model.get_output_embeddings() or self.model.score
        handle = head.register_forward_hook(lambda module, given, out: scored.append(out))
        try:
            logits: torch.Tensor = self.model(inputs_embeds=hidden[None], use_cache=False).logits
        finally:
            handle.remove()
        return (scored[-1] if head is getattr(self.model, "score", None) else logits)[0]

    def _reached(self, layer: int, hidden: torch.Tensor | None, given: dict[str, Any]) -> torch.Tensor:
        self._active = layer if hidden is not None else -1
        self._given = hidden if hidden is not None else torch.empty(0)
        try:
            self.model.base_model(**given)
        except _Reached as reached:
            return reached.hidden
        finally:
            self._given = torch.empty(0)
        raise RuntimeError("the model ran none of its layers")

    def _around(self, number: int, forward: Callable[..., Any]) -> Callable[..., torch.Tensor]:
        """A layer's own forward if it is at hand, else one that lets the hidden states through."""

        def passed(hidden_states: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
            if self._active == -1:
                raise _Reached(hidden_states)
            if self._active == number:
                out = forward(self._given, *args, **options)
                # Later layers would only be passed through, and the norm behind them has no weights yet.
                raise _Reached(out[0] if isinstance(out, tuple) else out)
            # What the model did to its input before the layers (Gemma scaled it there) is undone.
            return self._given if self._active == len(self._layers) else hidden_states

        return passed

    def _replaced(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        owner, _, leaf = name.rpartition(".")
        module = self.model.get_submodule(owner)
        before: torch.Tensor = getattr(module, leaf)
        if leaf in module._parameters:
            weight = nn.Parameter(weight, requires_grad=False)
        setattr(module, leaf, weight)
        return before


def config_for(folder: Path, form: AnswerForm, labels: int) -> Any:
    """The checkpoint's config for the form's head; raise ``ConfigError`` for weights of unread kinds."""
    config = config_of(folder)
    if form.has_head:
        config.num_labels = labels
    if (given := getattr(config, "quantization_config", None)) is None:
        return config
    fields = given if isinstance(given, dict) else given.to_dict()
    if not (fields.get("load_in_4bit") or fields.get("load_in_8bit")):
        raise ConfigError(
            f"weights quantized by {fields.get('quant_method')} are not read layer by layer", where=folder,
            expected="whole numbers, or the 4 or 8 bits of bitsandbytes", cure="load the whole model",
        )  # fmt: skip
    require_4bit()
    # Weights are whole when they are used: the skeleton is that of the model before it was quantized.
    del config.quantization_config
    return config


class _Reached(Exception):
    """Ends a forward at the layer whose hidden states were wanted."""

    def __init__(self, hidden: torch.Tensor) -> None:
        super().__init__()
        self.hidden = hidden


@contextmanager
def _weightless() -> Iterator[None]:
    """Modules made here register their parameters on the meta device, and their buffers as they are.

    Under ``torch.device("meta")`` the buffers that no checkpoint has (rotary frequencies) would be lost.
    """
    register = nn.Module.register_parameter
    draw = transformers.PreTrainedModel.initialize_weights

    def on_meta(module: nn.Module, name: str, given: nn.Parameter | None) -> None:
        empty = None if given is None else nn.Parameter(given.to("meta"), requires_grad=False)
        register(module, name, empty)

    nn.Module.register_parameter = on_meta
    # Drawing numbers for weights that are not there takes seconds in a deep model.
    transformers.PreTrainedModel.initialize_weights = lambda model, *given, **options: None
    try:
        yield
    finally:
        nn.Module.register_parameter = register
        transformers.PreTrainedModel.initialize_weights = draw


def _layers(model: Any) -> nn.ModuleList:
    """The list of a decoder's layers."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    lists = [
        child for child in model.base_model.children()
        if isinstance(child, nn.ModuleList) and len(child) == count
    ]  # fmt: skip
    if len(lists) != 1:
        raise ConfigError(
            f"a {type(model).__name__} cannot be read layer by layer",
            where=model.config.name_or_path,
            expected=f"one list of {count} layers in its {type(model.base_model).__name__}",
            cure="load the whole model",
        )
    return lists[0]


def _parts(model: Any, layers: nn.ModuleList) -> list[list[str]]:
    """Names of weights by part: modules are made in the order in which they are called."""
    place = next(name for name, module in model.named_modules() if module is layers)
    before: list[str] = []
    after: list[str] = []
    each: list[list[str]] = [[] for _ in layers]
    passed = False
    for name in model.state_dict(keep_vars=True):
        if name.startswith(f"{place}."):
            passed = True
            each[int(name[len(place) + 1 :].partition(".")[0])].append(name)
        else:
            (after if passed else before).append(name)
    return [before, *each, after]


def _require_one_embedding(model: Any, before: list[str]) -> None:
    """Require that nothing but the tokens' embedding precedes the layers: it is gone when they run."""
    if len(before) > 1:
        raise ConfigError(
            f"a {type(model).__name__} cannot be read layer by layer",
            where=model.config.name_or_path,
            expected=f"one embedding before its layers, found {', '.join(before)}",
            cure="load the whole model",
        )


def _tied(model: Any) -> dict[str, str]:
    """The head's weight, where it is the embedding's."""
    head = model.get_output_embeddings()
    if head is None or not model.config.get_text_config().tie_word_embeddings:
        return {}
    names = {module: name for name, module in model.named_modules()}
    return {f"{names[head]}.weight": f"{names[model.get_input_embeddings()]}.weight"}
