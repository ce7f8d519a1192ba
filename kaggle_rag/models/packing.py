"""Rows that begin alike in one row: what they share is computed once, and a mask keeps the rest apart.

A question's options follow one prefix, so a decoder reads context and question once instead of once an
option. Each option sees the prefix and itself, and its positions continue behind the prefix, so that the
numbers are those of separate rows (tree attention: Miao et al. 2023, SpecInfer,
https://arxiv.org/abs/2305.09781, there for drafts, here for options).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

import torch

from kaggle_rag.models.packed_attention import MASKED, Batch, mask

PADDING = -1
# Kinds of layers whose masks are made here; linear and chunked attention have others.
_KINDS = {"full_attention", "sliding_attention"}
# The least share of its tokens that packing must save a question; below it, its rows stay apart.
_LEAST_SAVED = 0.1


@dataclasses.dataclass
class PackedRows:
    """Tokens of some rows behind what they share.

    Attributes
    ----------
    ids, positions : of each token; positions are those in its own row.
    branches : 0 for a token that all rows share, else 1 + the number of its row.
    shared : how many tokens they share.
    starts : where the rest of each row begins.
    """

    ids: list[int]
    positions: list[int]
    branches: list[int]
    shared: int
    starts: list[int]

    def __len__(self) -> int:
        return len(self.ids)

    def place(self, row: int, token: int) -> int:
        """Where the token of a row stands."""
        return token if token < self.shared else self.starts[row] + token - self.shared


def shared_start(rows: Sequence[Sequence[int]]) -> int:
    """The number of leading tokens that all rows share."""
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows)))


def packed(rows: Sequence[Sequence[int]]) -> PackedRows:
    """The rows as one sequence; each keeps a token of its own, whose output can be read."""
    shared = min(shared_start(rows), min(map(len, rows)) - 1) if len(rows) > 1 else 0
    sequence = PackedRows(list(rows[0][:shared]), [*range(shared)], [0] * shared, shared, [])
    for number, row in enumerate(rows):
        sequence.starts.append(len(sequence.ids))
        sequence.ids += row[shared:]
        sequence.positions += range(shared, len(row))
        sequence.branches += [number + 1] * (len(row) - shared)
    return sequence


def is_worthwhile(rows: Sequence[Sequence[int]]) -> bool:
    """Whether one sequence is enough shorter than the rows: it costs attention between all of them."""
    total = sum(map(len, rows))
    return shared_start(rows) * (len(rows) - 1) >= _LEAST_SAVED * total


def first_fit(lengths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """The row and offset of each sequence when they are put behind each other in rows of ``room`` tokens.

    First-fit decreasing: at most 11/9 of the fewest rows, and a bit (Johnson 1973).
    """
    free: list[int] = []
    places = [(0, 0)] * len(lengths)
    for number in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        row = next((row for row, left in enumerate(free) if left >= lengths[number]), len(free))
        if row == len(free):
            free.append(room)
        places[number] = (row, room - free[row])
        free[row] -= lengths[number]
    return places


def tensors(sequences: Sequence[PackedRows], places: Sequence[tuple[int, int]], room: int, pad: int) -> Batch:
    """Sequences at their places, ``(rows, room)`` int64 each.

    ``group`` numbers the sequences of a row (`PADDING`: none), ``branch`` is `PackedRows.branches`.
    """
    rows = 1 + max(row for row, _ in places)
    batch = {
        "input_ids": torch.full((rows, room), pad),
        "position_ids": torch.zeros((rows, room), dtype=torch.int64),
        "group": torch.full((rows, room), PADDING),
        "branch": torch.zeros((rows, room), dtype=torch.int64),
    }
    for number, (sequence, (row, offset)) in enumerate(zip(sequences, places)):
        span = slice(offset, offset + len(sequence))
        batch["input_ids"][row, span] = torch.tensor(sequence.ids)
        batch["position_ids"][row, span] = torch.tensor(sequence.positions)
        batch["branch"][row, span] = torch.tensor(sequence.branches)
        batch["group"][row, span] = number
    return batch


def inner(model: Any) -> Any:
    """The transformers model inside of an adapter and of what several devices wrap it in."""
    model = getattr(model, "module", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def has_virtual_tokens(model: Any) -> bool:
    """Whether an adapter puts virtual tokens before every row: then only its wrapper may call the model."""
    return bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))


def by_kind(config: Any, mask: Callable[[int | None], Any]) -> Any:
    """What ``mask`` makes of the window of a model's layers, or of that of each kind, where it has several.

    A layer of full attention has none (``None``), whatever the model's window.
    """
    text = config.get_text_config()
    window, kinds = getattr(text, "sliding_window", None), set(getattr(text, "layer_types", None) or ())
    if "sliding_attention" in kinds:
        return {kind: mask(window if kind == "sliding_attention" else None) for kind in kinds}
    return mask(None if kinds else window)


def inputs(model: Any, batch: Batch, keys: Batch | None = None) -> dict[str, Any]:
    """What the model is called with: tokens, positions and a mask, or a mask for each kind of layer.

    ``keys`` are the tokens with what is cached before them, see `kaggle_rag.models.packed_attention`.
    """
    own = inner(model)
    masks = by_kind(own.config, lambda window: mask(own, batch, window, keys))
    return {
        "input_ids": batch["input_ids"], "position_ids": batch["position_ids"], "attention_mask": masks,
        "use_cache": False,
    }  # fmt: skip


def obstacle_in(config: Any) -> str:
    """Why a decoder's rows cannot be packed as far as its config says it; empty if nothing is against it."""
    if config._attn_implementation not in MASKED:
        return f"its attention ({config._attn_implementation}) takes no mask for every pair of tokens"
    if unknown := set(getattr(config.get_text_config(), "layer_types", None) or ()) - _KINDS:
        return f"it has layers of {', '.join(sorted(unknown))}"
    return ""
