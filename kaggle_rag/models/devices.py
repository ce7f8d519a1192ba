"""Where a model runs, and in which number format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kaggle_rag.runtime.errors import ConfigError

if TYPE_CHECKING:
    import torch

# Number formats and their names in torch, which is imported with a model, not when a setting is read.
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# Kinds of devices that torch may have: a typo is reported without importing it.
_KINDS = ("cpu", "cuda", "mps", "xpu", "hpu", "npu", "mtia", "meta")


def dtype_of(precision: str) -> torch.dtype:
    """The dtype of a key of `PRECISIONS`."""
    import torch

    dtype: torch.dtype = getattr(torch, PRECISIONS[precision])
    return dtype


def device_of(name: str | None) -> str:
    """``name``, or by default CUDA if available; raise ``ConfigError`` for a device that does not exist."""
    if name == "cpu":
        return name
    require_kind(name)
    import torch

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


def require_kind(name: str | None) -> None:
    """Raise ``ConfigError`` for what is no device on any machine."""
    if name is not None and name.partition(":")[0] not in _KINDS:
        raise ConfigError(f"no device {name!r}", where="--device", expected="cpu or cuda")


AUTO = "auto"
# How packed rows attend: as the model was loaded (SDPA, or eager), or by FlexAttention.
ATTENTIONS = (AUTO, "flex")


def require_attention(attention: str, where: str) -> None:
    """Raise ``ConfigError`` unless it is one of `ATTENTIONS`."""
    if attention not in ATTENTIONS:
        raise ConfigError(f"no attention {attention!r}", where=where, expected=", ".join(ATTENTIONS))


def require_precision(precision: str | None, where: str) -> None:
    """Raise ``ConfigError`` unless it is a key of `PRECISIONS`, ``"auto"``, or not given."""
    if precision not in (None, AUTO, *PRECISIONS):
        raise ConfigError(
            f"no precision {precision!r}", where=where, expected=", ".join((AUTO, *PRECISIONS))
        )


def precision_of(precision: str | None, device: str, where: str = "precision") -> str:
    """``precision``; for ``"auto"``, or none given, what a device computes a ranker fastest in.

    Raises
    ------
    ConfigError : bf16 on a GPU that only emulates it, such as a T4, where fp16 is twice as fast.
    """
    if precision in (None, AUTO):
        return half_of(device)
    if precision == "bf16" and device.startswith("cuda") and half_of(device) == "fp16":
        raise ConfigError(
            "this GPU has no bf16 in hardware: emulated, it is about twice as slow as fp16", where=where,
            expected="fp16, fp32 or auto",
        )  # fmt: skip
    return str(precision)


def half_of(device: str) -> str:
    """The half precision that the device has in hardware: ``bf16`` from Ampere on, ``fp16`` on a T4."""
    if not device.startswith("cuda"):
        return "fp32"
    import torch

    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def capability_of(device: torch.device) -> tuple[int, int] | None:
    """Compute capability of a CUDA card, ``(7, 5)`` of a T4; ``None`` for other devices."""
    import torch

    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


@contextmanager
def in_float32(model: Any) -> Iterator[None]:
    """The model in float32, for what overflows in a half precision; it takes twice the memory meanwhile.

    Afterwards every tensor has its own precision again: the frequencies of rotary positions, T5's ``wo`` and
    what reads snippets are in float32 from the start.
    """
    tensors = [each for each in (*model.parameters(), *model.buffers()) if each.is_floating_point()]
    dtypes = [each.dtype for each in tensors]
    try:
        for each in tensors:
            each.data = each.data.float()
        yield
    finally:
        for each, dtype in zip(tensors, dtypes):
            each.data = each.data.to(dtype)
