"""Where a model runs, and in which number format."""

from __future__ import annotations

import torch

from kaggle_rag.errors import ConfigError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def device_of(name: str | None) -> str:
    """``name``, or CUDA where there is one; raise ``ConfigError`` for a device that is not here."""
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"no device {name!r} on this machine",
            where="--device",
            expected="cpu" + (" or cuda" if torch.cuda.is_available() else ""),
        ) from error
    return name


def half_of(device: str) -> str:
    """The half precision that the device has in hardware: ``bf16`` from Ampere on, ``fp16`` on a T4."""
    if not device.startswith("cuda"):
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
