"""Weights in 4 or 8 bits as bitsandbytes has them: read from a checkpoint, or made as a weight arrives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

# A tensor of a checkpoint under "", and what belongs to it by the name behind the tensor's own.
Stored = dict[str, torch.Tensor]
# How bitsandbytes names what belongs to a weight: of NAME.weight in 4 bits NAME.weight.absmax and so on, the
# kind of them in the last name; in 8 bits NAME.SCB, the greatest absolute value of each row.
STATES = tuple(f"quant_state.bitsandbytes__{kind}" for kind in ("nf4", "fp4"))
SCALES = "SCB"


class Quantized(NamedTuple):
    """A weight in few bits: the packed numbers, and bitsandbytes' state or the scales of the rows."""

    packed: torch.Tensor
    state: Any

    @property
    def nbytes(self) -> int:
        """Bytes of the packed numbers and of their scales."""
        if isinstance(self.state, torch.Tensor):
            return int(self.packed.nbytes + self.state.nbytes)
        second = self.state.state2.absmax.nbytes if self.state.nested else 0
        return int(self.packed.nbytes + self.state.absmax.nbytes + second)

    def whole(self) -> torch.Tensor:
        """The weight, ``(out, in)``: of 8 bits in float32, of 4 bits in the type it was quantized from.

        A row of 8 bits is ``SCB / 127`` times its numbers (Dettmers et al. 2022, section 2.1,
        https://arxiv.org/abs/2208.07339); 4 bits are looked up, and scaled by blocks (Dettmers et al. 2023,
        https://arxiv.org/abs/2305.14314).
        """
        from bitsandbytes import functional

        if isinstance(self.state, torch.Tensor):
            whole: torch.Tensor = functional.int8_vectorwise_dequant(self.packed, self.state)
        else:
            whole = functional.dequantize_4bit(self.packed, self.state)
        return whole


def as_stored(stored: Mapping[str, torch.Tensor]) -> Quantized:
    """What a checkpoint has in few bits, on the device on which its tensors are."""
    from bitsandbytes import functional

    if SCALES in stored:
        return Quantized(stored[""], stored[SCALES])
    state: dict[str, Any] = {part: tensor for part, tensor in stored.items() if part}
    return Quantized(stored[""], functional.QuantState.from_dict(state, stored[""].device))


def in_nf4(weight: torch.Tensor) -> Quantized:
    """A weight ``(out, in)`` in 4-bit NormalFloat with double quantization, as transformers loads it."""
    from bitsandbytes import functional

    # On every device the block that bitsandbytes' own layers have by default.
    packed, state = functional.quantize_4bit(
        weight.contiguous(), blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    return Quantized(packed, state)
