"""The precision that a training computes in; its weights stay in float32."""

from __future__ import annotations

from kaggle_rag.models.devices import precision_of
from kaggle_rag.runtime.errors import ConfigError
from training.loop.settings import TrainingSettings


def mixed_precision(settings: TrainingSettings, device: str) -> str:
    """``fp32``, ``fp16`` or ``bf16``.

    Raises
    ------
    ConfigError : bf16 on a GPU that only emulates it; fp16 on a CPU, where accelerate would train in float32.
    """
    precision = precision_of(settings.precision, device)
    if precision == "fp16" and not device.startswith("cuda"):
        raise ConfigError(
            f"a {device} does not train in fp16", where="precision", expected="bf16, fp32 or auto",
            cure="bf16 is faster than fp32 on a CPU with matrix units (AMX), slower on others",
        )  # fmt: skip
    return precision
