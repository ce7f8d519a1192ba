"""The memory that a backbone will need, from the headers of its files: no weights are read."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from kaggle_rag.models.checkpoints import INDEX, shards, weights
from kaggle_rag.runtime.errors import CheckpointError

# Python with torch, transformers, the tables and what their allocators keep, as measured; bitsandbytes on
# top, and the CUDA context on a GPU.
_LIBRARIES = 600_000_000
_BITSANDBYTES = 100_000_000
_CUDA = 500_000_000
# What a torch built for CUDA needs on top, even without a GPU.
_CUDA_BUILD = 200_000_000
# Bytes per weight of a layer in NF4 with double quantization: 4 bits, and a bit over 8 for each 64.
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
# Layers that stay unquantized in a 4-bit model: the heads, which are small and trained.
WHOLE = ("lm_head", "score", "classifier", "classification_head", "pooler")
# Number types in a file, and their bytes there.
_STORED = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}
_FLOATS = {"F64", "F32", "F16", "BF16"}
_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
_KINDS = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}
# Attention matrices that models with relative positions keep.
_KEPT_MATRICES = {"deberta": 8, "deberta-v2": 8, "t5": 3, "mt5": 3, "umt5": 3}
_OTHER_MATRICES = 1
# What the C allocator keeps of parts that were freed, in parts: tensors below its 32 MB leave gaps.
_GAPS = 0.5
# Tokens of an answer for which a language model gives logits over its whole vocabulary.
_ANSWER = 64


@dataclasses.dataclass(frozen=True)
class Reading:
    """A batch: ``rows`` of ``tokens`` each, in ``precision``, on ``device``."""

    device: str
    precision: str
    rows: int
    tokens: int
    nf4: bool = False
    answers: bool = False
    """Whether logits over the vocabulary are computed."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Peak bytes of the whole process, and bytes of its model's weights alone."""

    ram: int
    gpu: int
    weights: int


def estimate(folders: list[Path], config: Any, reading: Reading) -> Estimate:
    """The memory for answering, from the checkpoint (and an adapter's folder) and its ``config.json``.

    Raises
    ------
    CheckpointError : a file is not safetensors, or is truncated.
    """
    tensors = [tensor for folder in folders for tensor in _headers(folder)]
    number = _BYTES[reading.precision]
    held = int(sum(_held(name, shape, kind, number, reading.nf4) for name, shape, kind in tensors))
    working = _working(config, reading, number)
    libraries = _LIBRARIES + (_BITSANDBYTES if reading.nf4 else 0) + (_CUDA_BUILD if _for_cuda() else 0)
    if reading.device.startswith("cuda"):
        return Estimate(libraries + _CUDA + _largest(folders), _CUDA + held + working, held)
    copied = sum(
        math.prod(shape) * _STORED.get(kind, 1)
        for name, shape, kind in tensors
        if _is_copied(name, shape, kind, reading)
    )
    return Estimate(libraries + held + copied + working, 0, held)


def streamed(
    parts: Sequence[int], resident: int, config: Any, reading: Reading, *, states_ram: int, states_gpu: int
) -> Estimate:
    """The memory for answering layer by layer, of ``parts`` that take so many bytes each.

    On a CPU a part and the next are in memory; for a GPU the next one waits in RAM, and is copied there
    while the one after it is read.
    """
    libraries = _LIBRARIES + int(_GAPS * max(parts)) + (_CUDA_BUILD if _for_cuda() else 0)
    kept = min(resident, sum(parts))
    pair = max(map(sum, itertools.pairwise(parts)))
    working = _working(config, reading, _BYTES[reading.precision])
    if reading.device.startswith("cuda"):
        gpu = _CUDA + kept + max(parts) + working + states_gpu
        return Estimate(libraries + _CUDA + pair + states_ram, gpu, kept + max(parts))
    return Estimate(libraries + kept + pair + working + states_ram, 0, kept + pair)


def _for_cuda() -> bool:
    import torch

    return torch.version.cuda is not None


def weights_of(folder: Path, precision: str) -> int:
    """Bytes of a checkpoint's weights in memory.

    Raises
    ------
    CheckpointError : a file is not safetensors, or is truncated.
    """
    number = _BYTES[precision]
    return int(sum(_held(name, shape, kind, number, nf4=False) for name, shape, kind in _headers(folder)))


def header(path: Path) -> Iterator[tuple[str, list[int], str]]:
    """Name, shape and number type (as safetensors calls it) of every tensor in a file.

    Raises
    ------
    CheckpointError : the file is not safetensors, or is truncated.
    """
    try:
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_slice(name)
                yield name, tensor.get_shape(), tensor.get_dtype()
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"this file is damaged ({str(error).splitlines()[0]})", where=path, cure="copy it again"
        ) from error


def require_whole(folder: Path) -> None:
    """Raise ``CheckpointError`` if one of a checkpoint's files is missing or truncated."""
    for path in shards(folder):
        for _ in header(path):
            pass


def _loaded(folder: Path) -> list[Path]:
    """The files that loading reads; beside those of an index others may lie (consolidated.safetensors)."""
    return shards(folder) if (folder / INDEX).is_file() else weights(folder)


def _headers(folder: Path) -> Iterator[tuple[str, list[int], str]]:
    for path in _loaded(folder):
        yield from header(path)


def _held(name: str, shape: list[int], kind: str, number: int, nf4: bool) -> float:
    count = math.prod(shape)
    if kind not in _FLOATS:
        return count * _STORED.get(kind, 1)
    return count * (NF4 if nf4 and is_linear(name, shape) else number)


def _is_copied(name: str, shape: list[int], kind: str, reading: Reading) -> bool:
    """Whether file pages stay resident besides the weight; a weight of the right type is those pages."""
    other = kind != _KINDS[reading.precision] or (reading.nf4 and is_linear(name, shape))
    return kind in _FLOATS and other


def is_linear(name: str, shape: Sequence[int]) -> bool:
    """Whether bitsandbytes quantizes it to 4 bits: a matrix that is neither embedding nor head."""
    parts = name.split(".")
    embeds = any("embed" in part or part in ("shared", "wte", "wpe") for part in parts)
    return len(shape) == 2 and parts[-1] == "weight" and not embeds and not set(parts) & set(WHOLE)


def _largest(folders: list[Path]) -> int:
    return max((path.stat().st_size for folder in folders for path in _loaded(folder)), default=0)


def _working(config: Any, reading: Reading, number: int) -> int:
    """Activations of one layer, the most that a forward pass without gradients keeps."""
    text = config.get_text_config()
    hidden = getattr(text, "hidden_size", 768)
    inner = getattr(text, "intermediate_size", None) or getattr(text, "d_ff", None) or 4 * hidden
    heads = getattr(text, "num_attention_heads", 12)
    read = reading.rows * reading.tokens
    matrices = _KEPT_MATRICES.get(config.model_type, _OTHER_MATRICES)
    layer = read * (8 * hidden + 3 * inner) * number
    attention = matrices * read * reading.tokens * heads * number
    # Logits are converted to float32, next to their exponentials.
    logits = 8 * reading.rows * _ANSWER * getattr(text, "vocab_size", 0) if reading.answers else 0
    return layer + attention + logits
