"""Whether a model's rows can be packed, and by which attention: tried on a few tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from kaggle_rag.models import packing
from kaggle_rag.models.packed_attention import Batch, switch
from kaggle_rag.models.packed_outputs import only
from kaggle_rag.models.packed_slices import by_length, slices

# Tokens that the rows of the trial share.
_SHORT, _LONGER = 8, 40
# Of its tokens, so that a slice ends inside of the prefix, and another inside of a branch.
_SLICE = 4
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
    before = own.config._attn_implementation
    reasons: list[str] = []
    with torch.inference_mode(), _evaluating(own):
        alone = [[_states(own, _row(own, row))[0] for row in rows] for rows in _questions(own)]
        for implementation in implementations:
            try:
                switch(own, implementation)
                if _gives(own, alone):
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
    batch = {**_batch(own, _questions(own)[:1]), "reads": torch.arange(0, device=_device(own))}
    with torch.inference_mode(), _evaluating(own):
        try:
            parts = [_states(own, given)[0] for given, _ in slices(own, batch, _SLICE)]
        except _FAULTS:
            return False
        return _agree(torch.cat(parts), _states(own, packing.inputs(own, batch))[0])


def can_be_lean(model: Any) -> bool:
    """Whether the last layer can leave out what is not read (`kaggle_rag.models.packed_outputs.only`)."""
    own = packing.inner(model)
    given = packing.inputs(own, _batch(own, _questions(own)))
    with torch.inference_mode(), _evaluating(own):
        whole = _states(own, given).flatten(0, 1)
        # Some of the prefix, some of a branch.
        reads = torch.arange(_SHORT - 1, len(whole), _SLICE, device=whole.device)
        try:
            with only(own, reads):
                return _agree(_states(own, given).flatten(0, 1)[reads], whole[reads])
        except _FAULTS:
            return False


def _questions(model: Any) -> list[list[list[int]]]:
    """Two rows of tokens behind one prefix, and two longer ones."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    tokens = [min(5 + 7 * n % max(vocabulary - 5, 1), vocabulary - 1) for n in range(_LONGER + 4)]
    return [
        [tokens[:shared] + tokens[shared : shared + 2], tokens[:shared] + tokens[shared + 1 : shared + 4]]
        for shared in (_SHORT, _LONGER)
    ]


def _row(model: Any, tokens: Sequence[int]) -> dict[str, Any]:
    return {"input_ids": torch.tensor([tokens], device=_device(model))}


def _batch(model: Any, questions: Sequence[Sequence[Sequence[int]]]) -> Batch:
    """The questions packed, a row each."""
    sequences = [packing.packed(rows) for rows in questions]
    places = [(number, 0) for number in range(len(sequences))]
    batch = packing.tensors(sequences, places, max(map(len, sequences)), 0)
    return {key: value.to(_device(model)) for key, value in batch.items()}


def _device(model: Any) -> torch.device:
    device: torch.device = model.get_input_embeddings().weight.device
    return device


def _states(model: Any, given: dict[str, Any]) -> torch.Tensor:
    """Last hidden states, ``(rows, t, hidden)`` float32."""
    states: torch.Tensor = model.base_model(**{"use_cache": False, **given}).last_hidden_state
    return states.float()


def _gives(model: Any, alone: Sequence[Sequence[torch.Tensor]]) -> bool:
    """Whether packed rows have the states of rows alone."""
    # One question, then all: a kernel that is compiled for one shape may be another than that for many.
    questions = _questions(model)
    for asked in (questions[:1], questions):
        together = _states(model, packing.inputs(model, _batch(model, asked)))
        for states, rows, wanted in zip(together, asked, alone):
            sequence = packing.packed(rows)
            for number, row in enumerate(rows):
                places = [sequence.place(number, token) for token in range(len(row))]
                if not _agree(states[places], wanted[number]):
                    return False
    return True


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
