"""Prepare a backbone for training: its head, adapter and form, and the card of the ranker that it becomes."""

from __future__ import annotations

import os

from kaggle_rag.models.answering.marginal import Mixing, marginal
from kaggle_rag.models.card import RankerCard
from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.models.description import max_positions
from kaggle_rag.models.devices import device_of
from kaggle_rag.models.layouts import layout_of
from kaggle_rag.models.loading import Backbone, load_backbone, with_knowledge, with_packing
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import ConfigError
from training.loop.precision import mixed_precision
from training.rankers.adversarial import require_embeddings
from training.rankers.peft_methods import METHODS, with_method
from training.rankers.settings import RankerRun
from training.rankers.weights import freeze


def prepared(settings: RankerRun) -> tuple[Backbone, RankerCard]:
    """The backbone with its head and adapter, ready to train, and the card of the future ranker."""
    backbone = _in_form(settings, _adapted(settings, _loaded(settings)))
    if settings.adversarial == "fgm":
        require_embeddings(backbone.model)
    if settings.gradient_checkpointing:
        backbone.model.gradient_checkpointing_enable({"use_reentrant": False})
        # Frozen embeddings would cut the recomputed layers off from the loss.
        backbone.model.enable_input_require_grads()
    return backbone, _card(settings, backbone)


def _loaded(settings: RankerRun) -> Backbone:
    device = own_device(settings.device)
    nf4 = METHODS[settings.peft.method].nf4
    compute = mixed_precision(settings, device)
    return load_backbone(
        settings.model, settings.form, device=device, nf4=nf4,
        # Full weights stay in float32; those in 4 bits compute in half precision.
        precision=compute if nf4 else "fp32", labels=_labels(settings),
    )  # fmt: skip


def _adapted(settings: RankerRun, backbone: Backbone) -> Backbone:
    """The backbone with the weights that learn: some of its own, or an adapter's."""
    _require_length(settings.max_tokens, backbone)
    freeze(backbone.model, settings.frozen_layers, embeddings=settings.frozen_embeddings)
    model = with_method(backbone, settings.peft.method, settings.peft.options)
    backbone = with_knowledge(backbone._replace(model=model))
    if METHODS[settings.peft.method].reads and settings.gradient_checkpointing:
        raise ConfigError(
            f"{settings.peft.method} passes keys and values, which recomputed layers would lose",
            where="gradient_checkpointing", cure="leave it out, or lower batch",
        )  # fmt: skip
    return backbone


def _in_form(settings: RankerRun, backbone: Backbone) -> Backbone:
    """The backbone with its form over packed rows, or over snippets that are read apart."""
    if settings.packed:
        backbone, reason = with_packing(backbone)
        if reason:
            say(f"note: each option is read in a separate row: {reason}")
    if settings.marginal.kind == "none":
        return backbone
    return backbone._replace(form=marginal(backbone.form, Mixing(**settings.marginal.model_dump())))


def _card(settings: RankerRun, backbone: Backbone) -> RankerCard:
    layout = layout_of(backbone.form.layout, settings.template)
    method, checkpoint = METHODS[settings.peft.method], resolve(settings.model)
    adapted = bool(method.config)
    return RankerCard(
        form=settings.form, layout=layout, max_tokens=settings.max_tokens, snippets=settings.snippets,
        labels=_labels(settings), base=settings.model if adapted else "",
        base_sha256=checkpoint.sha256 if adapted else "", nf4=method.nf4,
        marginal=None if settings.marginal.kind == "none" else settings.marginal.model_dump(),
    )  # fmt: skip


def _labels(settings: RankerRun) -> int:
    """Outputs of the head: 2 if it also sees the other options."""
    return 2 if settings.others else 1


def own_device(wanted: str | None) -> str:
    """The device that is wanted; each of several processes on a machine has its own GPU.

    Raises
    ------
    ConfigError : another GPU than the first, which the trainer would not take.
    """
    device, rank = device_of(wanted), os.environ.get("LOCAL_RANK")
    number = device.partition(":")[2]
    if number not in ("", "0"):
        raise ConfigError(
            f"a training runs on the first GPU that it sees, not on {device}", where="device",
            cure=f"CUDA_VISIBLE_DEVICES={number} before the command, and device: cuda",
        )  # fmt: skip
    return f"cuda:{rank}" if device == "cuda" and rank else device


def _require_length(max_tokens: int, backbone: Backbone) -> None:
    limit = max_positions(backbone.model.config)
    if limit and max_tokens > limit:
        raise ConfigError(
            f"the backbone reads at most {limit} tokens, not {max_tokens}",
            where="max_tokens",
            cure=f"set max_tokens: {limit}",
        )
