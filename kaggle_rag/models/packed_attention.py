"""Attention among the tokens of packed rows: what each of them sees, and the mask that a model takes.

Four implementations take such a mask: FlexAttention, which skips blocks of pairs that do not see each other
(https://pytorch.org/blog/flexattention/); torch's SDPA, here with and without a share of the mask; and
eager attention, for models whose logits are bent before the softmax (Gemma 2).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch

from kaggle_rag.models.devices import AUTO

Batch = dict[str, torch.Tensor]

FLEX, SDPA, EAGER = "flex_attention", "sdpa", "eager"
PACKED_SDPA = "packed_sdpa"
"""SDPA in parts: the prefix by the causal kernel, which skips half of the pairs, the rest by a mask."""
MASKED = (FLEX, PACKED_SDPA, SDPA, EAGER)
# FlexAttention's kernels need Ampere; its auxiliary outputs, which transformers reads, are of torch 2.9.
_FLEX_CARD, _FLEX_TORCH = (8, 0), (2, 9)
# What some models do to attention's logits before the softmax.
_BENT = ("softcap", "position_bias", "s_aux")
# What decides which tokens a token sees.
_FACTS = ("group", "branch", "position_ids")
# Queries for which one piece of the mask is used.
_BLOCK = 256
# Wider than any row.
_NO_WINDOW = 1 << 40


class _Tokens(NamedTuple):
    """Some tokens of packed rows: tensors of one shape, or of shapes that broadcast."""

    group: torch.Tensor
    branch: torch.Tensor
    position: torch.Tensor
    order: torch.Tensor


def _sees(query: _Tokens, key: _Tokens, window: int | torch.Tensor) -> torch.Tensor:
    """The rule: a token sees its prefix and its own row, up to itself and inside of the window."""
    # Nothing in place: FlexAttention compiles this.
    near = (query.group == key.group) & (query.order >= key.order) & (query.position - key.position < window)
    return near & ((key.branch == 0) | (query.branch == key.branch))


def visible(queries: Batch, window: int | None = None, keys: Batch | None = None) -> torch.Tensor:
    """Which tokens each token sees, ``(rows, 1, q, k)`` bool: its prefix and its own row, up to itself.

    ``window`` is how many positions back a sliding layer sees, itself included. ``keys`` end with the
    queries (default: they are the queries). Padding sees padding: no row of attention is empty.
    """
    own, others = _tokens(queries, keys)
    query = _Tokens(*(each[..., :, None] for each in own))
    key = _Tokens(*(each[..., None, :] for each in others))
    return _sees(query, key, _NO_WINDOW if window is None else window)[:, None]


def mask(model: Any, queries: Batch, window: int | None, keys: Batch | None = None) -> Any:
    """The same as the attention of ``model`` (a transformers model) takes it."""
    implementation = model.config._attn_implementation
    if implementation == FLEX:
        return _block_mask(queries, window, keys)
    if implementation == PACKED_SDPA and keys is None:
        start = causal_start(queries, window)
        keys, queries = queries, {name: queries[name][:, start:] for name in _FACTS}
    seen = visible(queries, window, keys)
    dtype = model.get_input_embeddings().weight.dtype
    # SDPA takes bool too, and converts it in every layer.
    lowest = torch.finfo(dtype).min
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, lowest)


def causal_start(batch: Batch, window: int | None = None) -> int:
    """How many tokens at the start of all rows see just those before them: a prefix and its first branch."""
    first = batch["group"][:, :1]
    chained = (batch["group"] == first) & (batch["branch"] <= 1)
    if window is not None:
        chained &= batch["position_ids"] < window
    return int(chained.long().cumprod(1).sum(1).min())


def _tokens(queries: Batch, keys: Batch | None) -> tuple[_Tokens, _Tokens]:
    """The tokens, and those that they may see, ``(rows, q)`` and ``(rows, k)``; their order ``(1, k)``."""
    keys = queries if keys is None else keys
    count = keys["group"].shape[1]
    order = torch.arange(count, device=keys["group"].device)[None]
    places = (order[:, count - queries["group"].shape[1] :], order)
    own, others = (
        _Tokens(batch["group"], batch["branch"], batch["position_ids"], place)
        for batch, place in zip((queries, keys), places)
    )
    return own, others


def _block_mask(queries: Batch, window: int | None, keys: Batch | None) -> Any:
    """What FlexAttention takes: the rule, and which blocks of pairs it leaves out."""
    from torch.nn.attention.flex_attention import create_block_mask

    own, others = _tokens(queries, keys)
    # A tensor, so that no kernel is compiled for a window of its own.
    width = torch.tensor(_NO_WINDOW if window is None else window, device=own.group.device)

    def sees(row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return _sees(_at(own, row, query), _at(others, row, key), width)

    rows, count = own.group.shape
    return create_block_mask(sees, rows, None, count, others.group.shape[1], device=str(own.group.device))


def _at(tokens: _Tokens, row: torch.Tensor, place: torch.Tensor) -> _Tokens:
    group, branch, position, order = tokens
    return _Tokens(group[row, place], branch[row, place], position[row, place], order[0, place])


def implementations(
    current: str, choice: str = AUTO, *, flex: bool, card: tuple[int, int] | None, version: str
) -> list[str]:
    """Implementations to try, the best first.

    FlexAttention must be asked for: it compiles a kernel, for a minute and again for other shapes, and no
    trial shows that all of them will compile.

    Parameters
    ----------
    current : what the model was loaded with: SDPA, or eager where transformers refuses it SDPA.
    choice : one of `kaggle_rag.models.devices.ATTENTIONS`.
    flex : whether the model takes FlexAttention at all.
    card : compute capability of the CUDA card, ``None`` on a CPU.
    version : of torch.
    """
    if current not in (SDPA, EAGER):
        return [current]
    found = [PACKED_SDPA, SDPA] if current == SDPA else [EAGER]
    recent = tuple(int(part) for part in version.split(".")[:2]) >= _FLEX_TORCH
    there = flex and recent and (card is None or card >= _FLEX_CARD)
    return [FLEX, *found] if choice == "flex" and there else found


def switch(model: Any, implementation: str) -> None:
    """Let a transformers model use an implementation; raise ``ValueError`` if it does not take it."""
    if implementation == model.config._attn_implementation:
        return
    if implementation == PACKED_SDPA:
        _register()
    model.set_attn_implementation(implementation)
    if model.config._attn_implementation != implementation:
        raise ValueError(f"a {type(model).__name__} keeps its own attention")


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(PACKED_SDPA, _packed_sdpa)
    AttentionMaskInterface.register(PACKED_SDPA, sdpa_mask)


def _packed_sdpa(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: torch.Tensor | None, dropout: float = 0.0, scaling: float | None = None, **options: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Attention whose mask may begin later than its queries: those before it see what is before them.

    Queries, keys and values ``(rows, heads, tokens, width)``, mask ``(rows, 1, q, k)``; returns
    ``(rows, tokens, heads, width)``.
    """
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    first = 0 if attention_mask is None else query.shape[2] - attention_mask.shape[2]
    if attention_mask is None or first == 0:
        out: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return out
    if bent := [name for name in _BENT if options.get(name) is not None]:
        raise ValueError(f"SDPA in parts has no {', '.join(bent)}")
    # A T4 has no kernel for fewer keys than queries: torch would keep the matrix of all pairs.
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    attend = functools.partial(
        torch.nn.functional.scaled_dot_product_attention, dropout_p=dropout, scale=scaling
    )
    found = [attend(*(each[:, :, :first] for each in (query, key, value)), is_causal=True)]
    for start in range(first, query.shape[2], _BLOCK):
        end = min(start + _BLOCK, query.shape[2])
        # No token sees a later one.
        seen = attention_mask[:, :, start - first : end - first, :end]
        found.append(attend(query[:, :, start:end], key[:, :, :end], value[:, :, :end], attn_mask=seen))
    return torch.cat([each.transpose(1, 2) for each in found], dim=1), None
