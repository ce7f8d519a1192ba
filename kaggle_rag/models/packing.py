"""Rows that begin alike in one row: what they share is computed once, and a mask keeps the rest apart.

A question's options follow one prefix, so a decoder reads context and question once instead of once an
option. Each option sees the prefix and itself, and its positions continue behind the prefix, so that the
numbers are those of separate rows (tree attention: Miao et al. 2023, SpecInfer,
https://arxiv.org/abs/2305.09781, there for drafts, here for options).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import torch

Batch = dict[str, torch.Tensor]
PADDING = -1
# Kinds of layers whose masks are made here; linear and chunked attention have others.
_KINDS = {"full_attention", "sliding_attention"}
# Attention that takes a mask of its own for every pair of tokens.
_MASKED = {"sdpa": "bool", "eager": "additive"}
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


def visible(batch: Batch, window: int | None = None) -> torch.Tensor:
    """Which tokens each token sees, ``(rows, 1, t, t)`` bool: its prefix and its own row, up to itself.

    ``window`` is how many positions back a sliding layer sees, itself included. Padding sees padding: no
    row of attention is empty.
    """
    group, branch, position = batch["group"], batch["branch"], batch["position_ids"]
    order = torch.arange(group.shape[1], device=group.device)
    seen = (group[:, :, None] == group[:, None, :]) & (order[:, None] >= order[None, :])
    seen &= (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
    if window is not None:
        seen &= position[:, :, None] - position[:, None, :] < window
    return seen[:, None]


def inner(model: Any) -> Any:
    """The transformers model inside of an adapter and of what several devices wrap it in."""
    model = getattr(model, "module", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def has_virtual_tokens(model: Any) -> bool:
    """Whether an adapter puts virtual tokens before every row: then only its wrapper may call the model."""
    return bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))


def inputs(model: Any, batch: Batch) -> dict[str, Any]:
    """What the model is called with: tokens, positions and a mask, or a mask for each kind of layer."""
    own = inner(model)
    config = own.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if "sliding_attention" in kinds:
        masks: Any = {
            kind: _written(visible(batch, window if kind == "sliding_attention" else None), own)
            for kind in kinds
        }
    else:
        masks = _written(visible(batch, None if kinds else window), own)
    return {
        "input_ids": batch["input_ids"], "position_ids": batch["position_ids"], "attention_mask": masks,
        "use_cache": False,
    }  # fmt: skip


def _written(seen: torch.Tensor, model: Any) -> torch.Tensor:
    """The mask as the model's attention takes it."""
    if _MASKED[model.config._attn_implementation] == "bool":
        return seen
    dtype = model.get_input_embeddings().weight.dtype
    lowest = torch.finfo(dtype).min
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, lowest)


def token_logits(model: Any, batch: Batch) -> torch.Tensor:
    """Logits of the next token at ``batch["reads"]``, ``(reads, vocabulary)``.

    Only these positions meet the head, which is as wide as the vocabulary; what the model does to logits
    behind its head (soft capping) is done to them too.
    """

    def select(head: torch.nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (given[0].flatten(0, 1)[batch["reads"]][None], *given[1:])

    handle = inner(model).get_output_embeddings().register_forward_pre_hook(select)
    try:
        logits: torch.Tensor = model(**inputs(model, batch)).logits[0]
    finally:
        handle.remove()
    return logits


def head_logits(model: Any, batch: Batch) -> torch.Tensor:
    """What a classification head makes of the tokens at ``batch["reads"]``, ``(reads, labels)``."""
    scored: list[torch.Tensor] = []
    handle = inner(model).score.register_forward_hook(lambda head, given, out: scored.append(out))
    try:
        model(**inputs(model, batch))
    finally:
        handle.remove()
    return scored[-1].flatten(0, 1)[batch["reads"]]


def obstacle(model: Any) -> str:
    """Why a decoder's rows cannot be packed; empty where they can: tried on a few tokens."""
    own = inner(model)
    if has_virtual_tokens(model):
        return "its adapter puts virtual tokens before every row"
    if reason := obstacle_in(own.config):
        return reason
    try:
        return "" if _agrees(own) else "packed rows give other numbers than separate ones"
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        return f"it takes no packed rows ({str(error).splitlines()[0] if str(error) else error!r})"


def obstacle_in(config: Any) -> str:
    """The same as far as a model's config says it, before there are weights to try."""
    if config._attn_implementation not in _MASKED:
        return f"its attention ({config._attn_implementation}) takes no mask for every pair of tokens"
    if unknown := set(getattr(config.get_text_config(), "layer_types", None) or ()) - _KINDS:
        return f"it has layers of {', '.join(sorted(unknown))}"
    return ""


def _agrees(model: Any) -> bool:
    """Whether two rows behind one prefix have the last hidden states that they have alone."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    tokens = [5 + 7 * n % max(vocabulary - 5, 1) for n in range(12)]
    tokens = [min(token, vocabulary - 1) for token in tokens]
    rows = [tokens[:8] + tokens[8:10], tokens[:8] + tokens[9:12]]
    device = model.get_input_embeddings().weight.device
    sequence = packed(rows)
    batch = {k: v.to(device) for k, v in tensors([sequence], [(0, 0)], len(sequence), 0).items()}
    with torch.inference_mode(), _evaluating(model):
        together = model.base_model(**inputs(model, batch)).last_hidden_state[0].float()
        for number, row in enumerate(rows):
            alone = model.base_model(input_ids=torch.tensor([row], device=device), use_cache=False)
            own = together[[sequence.place(number, token) for token in range(len(row))]]
            wanted = alone.last_hidden_state[0].float()
            # Half precision rounds by about 1e-3, and a wrong mask is off by the size of the states.
            if not torch.linalg.norm(own - wanted) < 0.05 * torch.linalg.norm(wanted):
                return False
    return True


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Dropout off."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
