"""The number format an encoder computes in: its table, what a machine is fast in, what it may cost."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Least cosine to float32 that a format may have before it is left alone.
LEAST_COSINE = 0.999

# Short, long, of symbols and of names: what a format that does not suit a model would show itself on.
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


def fastest(device: str) -> str:
    """The format whose matrix products are fastest on a device, by what it has, not by a measurement:
    the same machine always gives the same answer.

    float16 is what every CUDA device with tensor cores has; bfloat16 is twice as fast as float32 on a CPU
    with instructions for it (AVX512_BF16, AMX) and far slower on all others.
    """
    if device.startswith("cuda"):
        return "fp16"
    # Older versions of torch do not say what a CPU has.
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if device == "cpu" and (able.get("avx512_bf16") or able.get("amx_bf16")) else "fp32"


def reduced(model: Any, precision: str) -> Any:
    """A copy of a sentence-transformers model whose first module, the transformer, computes in a format.

    Its token vectors are float32 again before they are pooled and normalised, so that sums and lengths
    never depend on the format.
    """
    made = copy.deepcopy(model)
    made[0].to(PRECISIONS[precision])
    made[0].register_forward_hook(lambda module, inputs, features: _as_float32(features))
    return made


def _as_float32(features: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.float() if torch.is_tensor(value) and value.is_floating_point() else value
        for name, value in features.items()
    }
