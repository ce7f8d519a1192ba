"""Whether a model's rows can be packed, and by which attention: tried on a few tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from kaggle_rag.models import packing
from kaggle_rag.models.packed_attention import Batch, switch
from kaggle_rag.models.packed_slices import by_length, slices

# Of the tokens of the trial, so that a slice ends inside of the prefix, and another inside of a branch.
_SLICE = 3
# Half precision rounds by about 1e-3, and a wrong mask is off by the size of the states.
_TOLERANCE = 0.05
_FAULTS = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, ImportError, OSError)


def fitted(model: Any, implementations: Sequence[str]) -> list[str]:
    """Let a decoder use the first attention by which packed rows give the numbers of separate ones.

    Returns
    -------
    Why each implementation before that one was refused. If all were, its attention is as it was, and the
    last reason says why its rows cannot be packed.
    """
    own = packing.inner(model)
    if packing.has_virtual_tokens(model):
        return ["its adapter puts virtual tokens before every row"] * len(implementations)
    if reason := packing.obstacle_in(own.config):
        return [reason] * len(implementations)
    before, rows = own.config._attn_implementation, _rows(own)
    reasons: list[str] = []
    with torch.inference_mode(), _evaluating(own):
        alone = [_states(own, input_ids=torch.tensor([row], device=_device(own))) for row in rows]
        for implementation in implementations:
            try:
                switch(own, implementation)
                if _are_those(_states(own, **packing.inputs(own, _batch(own, rows))), alone, rows):
                    return reasons
                reasons.append("packed rows give other numbers than separate ones")
            except _FAULTS as error:
                detail = str(error).splitlines()[0] if str(error) else repr(error)
                reasons.append(f"it takes no packed rows ({detail})")
        switch(own, before)
    return reasons


def can_be_sliced(model: Any) -> bool:
    """Whether packed rows in slices (`kaggle_rag.models.packed_slices`) give the numbers of whole ones."""
    own = packing.inner(model)
    if by_length(own.config):
        return False
    batch = {**_batch(own, _rows(own)), "reads": torch.arange(0, device=_device(own))}
    with torch.inference_mode(), _evaluating(own):
        try:
            parts = [_states(own, **given) for given, _ in slices(own, batch, _SLICE)]
        except _FAULTS:
            return False
        return _agree(torch.cat(parts), _states(own, **packing.inputs(own, batch)))


def _rows(model: Any) -> list[list[int]]:
    """Two rows of tokens behind one prefix."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    tokens = [min(5 + 7 * n % max(vocabulary - 5, 1), vocabulary - 1) for n in range(12)]
    return [tokens[:8] + tokens[8:10], tokens[:8] + tokens[9:12]]


def _batch(model: Any, rows: Sequence[Sequence[int]]) -> Batch:
    sequence = packing.packed(rows)
    batch = packing.tensors([sequence], [(0, 0)], len(sequence), 0)
    return {key: value.to(_device(model)) for key, value in batch.items()}


def _device(model: Any) -> torch.device:
    device: torch.device = model.get_input_embeddings().weight.device
    return device


def _states(model: Any, **given: Any) -> torch.Tensor:
    """Last hidden states of the first row, ``(t, hidden)`` float32."""
    states: torch.Tensor = model.base_model(**{"use_cache": False, **given}).last_hidden_state[0]
    return states.float()


def _are_those(together: torch.Tensor, alone: Sequence[torch.Tensor], rows: Sequence[Sequence[int]]) -> bool:
    sequence = packing.packed(rows)
    places = [[sequence.place(number, token) for token in range(len(row))] for number, row in enumerate(rows)]
    return all(_agree(together[place], wanted) for place, wanted in zip(places, alone))


def _agree(states: torch.Tensor, wanted: torch.Tensor) -> bool:
    # Not-a-numbers agree with nothing.
    return bool(torch.linalg.norm(states - wanted) < _TOLERANCE * torch.linalg.norm(wanted))


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Dropout off."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
