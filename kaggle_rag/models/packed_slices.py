"""Packed rows in slices of few tokens, one behind the other: for rows that do not fit into memory at once.

The keys and values of a prefix are cached, and the branches follow in slices that see them; what no later
slice sees is dropped. Activations and masks are then those of a slice, whatever the row's length.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch

from kaggle_rag.models import packing
from kaggle_rag.models.packed_attention import Batch

# What the model is called with, and which of its tokens are read.
Slice = tuple[dict[str, Any], torch.Tensor]
# Frequencies of such position embeddings depend on the longest row of a call.
_BY_LENGTH = {"dynamic", "longrope"}
_KEYS = ("input_ids", "position_ids", "group", "branch")


def slices(model: Any, batch: Batch, tokens: int) -> Iterator[Slice]:
    """Calls that together read a batch, each of at most ``tokens`` new tokens.

    The model must have been called with a slice before the next one is asked for. Their reads, one slice
    behind the other, are ``batch["reads"]``, which must be sorted.
    """
    room = batch["input_ids"].shape[1]
    for number, group in enumerate(batch["group"]):
        length = int((group != packing.PADDING).sum())
        row = {key: batch[key][number : number + 1, :length] for key in _KEYS}
        own = batch["reads"] - number * room
        yield from _row(model, row, own[(own >= 0) & (own < length)], tokens)


def _row(model: Any, row: Batch, reads: torch.Tensor, tokens: int) -> Iterator[Slice]:
    """The same for one row without padding, ``(1, t)`` each."""
    from transformers import DynamicCache

    # Without a config its layers keep all tokens, those outside of a window too: the mask leaves them out.
    cache = DynamicCache()
    length = row["input_ids"].shape[1]
    count = -(-length // tokens)
    borders = [length * number // count for number in range(count + 1)]
    keys = {key: values[:, :0] for key, values in row.items()}
    for start, end in itertools.pairwise(borders):
        queries = {key: values[:, start:end] for key, values in row.items()}
        keys = {key: torch.cat([keys[key], queries[key]], 1) for key in _KEYS}
        given = packing.inputs(model, queries, keys if start else None)
        inside = reads[(reads >= start) & (reads < end)] - start
        yield {**given, "past_key_values": cache, "use_cache": True}, inside
        if end < length:
            keys = _kept(cache, keys, {key: values[:, end] for key, values in row.items()})


def _kept(cache: Any, keys: Batch, following: Batch) -> Batch:
    """Drop from the cache, and from what is known of it, what neither the next token nor a later one sees."""
    seen = (keys["group"] == following["group"]) & (
        (keys["branch"] == 0) | (keys["branch"] == following["branch"])
    )
    kept = torch.nonzero(seen[0])[:, 0]
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys[:, :, kept], layer.values[:, :, kept]
    return {key: values[:, kept] for key, values in keys.items()}


def by_length(config: Any) -> bool:
    """Whether a model's position embeddings depend on the longest row of a call."""
    given = getattr(config.get_text_config(), "rope_parameters", None) or {}
    found = [given, *(each for each in given.values() if isinstance(each, dict))]
    return any(each.get("rope_type") in _BY_LENGTH for each in found)
