"""The number format an encoder computes in: what suits a device, what is fast, what it may cost."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

from kaggle_rag.models.devices import dtype_of

# A format whose lowest cosine to float32 is below this is not used.
LEAST_COSINE = 0.999

# Short, long, with symbols and with names: texts on which an unsuitable format would show.
PROBES = (
    "Water.",
    "Iron rusts in moist air because it reacts with oxygen and water.",
    "The half-life of carbon-14 is 5,730 ± 40 years.",
    "E = mc², F = ma, pV = nRT, and 6.02214076×10²³ mol⁻¹.",
    "Marie Skłodowska-Curie (1867–1934) was born in Warsaw.",
    "What is the function of the mitochondria in a eukaryotic cell?",
    "The mitochondrion releases the energy stored in food. " * 20,
    "鉄 é ß",
)


# Seconds that a decision takes, and the gain below which it is noise.
_SECONDS, _GAIN = 1.0, 0.9
Clock = Callable[[], float]


def half_for(device: str) -> str:
    """The half precision that may suit a device; ``fp32`` if none does.

    Every CUDA device with tensor cores has float16. A CPU has to be measured: one with AMX computes
    bfloat16 twice as fast as float32, one with AVX512_BF16 alone may be slower by half, and all others
    are far slower.
    """
    if device.startswith("cuda"):
        return "fp16"
    return "bf16" if device == "cpu" else "fp32"


def is_faster(
    full: Callable[[], object], half: Callable[[], object], clock: Clock = time.perf_counter
) -> bool:
    """Whether ``half`` takes clearly less time than ``full`` for the same work.

    Both are run in turns, so that other load on the machine affects both, and the medians are compared.
    This takes about a second, or one turn of a large model. Run both once beforehand.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    begin = clock()
    while not seconds[0] or clock() - begin < _SECONDS:
        for work, durations in zip((full, half), seconds):
            start = clock()
            work()
            durations.append(clock() - start)
    return statistics.median(seconds[1]) < _GAIN * statistics.median(seconds[0])


def reduced(model: Any, precision: str) -> Any:
    """A copy of a sentence-transformers model whose first module, the transformer, uses ``precision``.

    Its token vectors become float32 again before they are pooled and normalised, so that sums and lengths
    never depend on the format.
    """
    reduced_model = copy.deepcopy(model)
    reduced_model[0].to(dtype_of(precision))
    reduced_model[0].register_forward_hook(lambda module, inputs, features: _as_float32(features))
    return reduced_model


def _as_float32(features: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {
        name: value.float() if torch.is_tensor(value) and value.is_floating_point() else value
        for name, value in features.items()
    }
