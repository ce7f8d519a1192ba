"""What a decoder says at a few tokens of packed rows: only they meet its last feed-forward part and head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from kaggle_rag.models.packing import inner


def token_logits(model: Any, given: dict[str, Any], reads: torch.Tensor, lean: bool = False) -> torch.Tensor:
    """Logits of the token behind each of ``reads``, ``(reads, vocabulary)``, called with ``given``.

    Reads count the tokens through all rows. Only these meet the head, which is as wide as the vocabulary;
    what the model does to logits behind its head (soft capping) is done to them too. ``lean`` adds `only`.
    """

    def select(head: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0].flatten(0, 1)[reads][None], *args[1:])

    handle = inner(model).get_output_embeddings().register_forward_pre_hook(select)
    try:
        with only(model, reads) if lean else nullcontext():
            logits: torch.Tensor = model(**given).logits[0]
    finally:
        handle.remove()
    return logits


def head_logits(model: Any, given: dict[str, Any], reads: torch.Tensor, lean: bool = False) -> torch.Tensor:
    """What a classification head makes of ``reads``, ``(reads, labels)``; see `token_logits`."""
    scored: list[torch.Tensor] = []
    handle = inner(model).score.register_forward_hook(lambda head, args, out: scored.append(out))
    try:
        with only(model, reads) if lean else nullcontext():
            model(**given)
    finally:
        handle.remove()
    return scored[-1].flatten(0, 1)[reads]


@contextmanager
def only(model: Any, reads: torch.Tensor) -> Iterator[None]:
    """The feed-forward part of the last layer sees the tokens at ``reads`` and says nothing of the others.

    Nothing reads those: the prefix is what the rows' tokens attend to, and attention is over by then. A layer
    that runs again in the backward pass, when the hooks are gone, sees all of them.
    """
    part = last_feed_forward(inner(model), once=torch.is_grad_enabled())
    if part is None:
        yield
        return
    shapes: list[torch.Size] = []

    def select(module: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        shapes.append(args[0].shape)
        return (args[0].flatten(0, 1)[reads][None], *args[1:])

    def spread(module: torch.nn.Module, args: tuple[Any, ...], out: torch.Tensor) -> torch.Tensor:
        whole = out.new_zeros(shapes[-1])
        whole.view(-1, whole.shape[-1])[reads] = out[0]
        return whole

    handles = [part.register_forward_pre_hook(select), part.register_forward_hook(spread)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def last_feed_forward(model: Any, once: bool = False) -> torch.nn.Module | None:
    """The feed-forward part of a decoder's last layer, by the name that most families give it.

    With ``once``, only of a layer that is certain to run once a step: one that is not checkpointed, by
    transformers or by what wraps it.
    """
    lists = [child for child in model.base_model.children() if isinstance(child, torch.nn.ModuleList)]
    if len(lists) != 1:
        return None
    layer: Any = lists[0][-1]
    wrapped = not type(layer).__module__.startswith("transformers.")
    if once and (wrapped or getattr(layer, "gradient_checkpointing", False)):
        return None
    part = getattr(layer, "mlp", None)
    return part if isinstance(part, torch.nn.Module) else None
