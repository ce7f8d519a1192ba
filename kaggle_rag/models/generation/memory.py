"""The memory that generating needs, from the headers of a checkpoint's files: no weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kaggle_rag.config import GenerationSettings
from kaggle_rag.models.memory import Reading, estimate
from kaggle_rag.runtime.limits import Need

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


def need_of_generation(
    folder: Path, config: Any, settings: GenerationSettings, *, device: str, precision: str,
    prompt_tokens: int, batch_tokens: int,
) -> Need:  # fmt: skip
    """The peak of a batch of the longest prompts: weights, one layer's activations, keys and values.

    Raises
    ------
    CheckpointError : a file is not safetensors, or is truncated.
    """
    length = prompt_tokens + settings.max_new_tokens
    rows = max(settings.beams, batch_tokens // length)
    reading = Reading(
        device, precision, rows, prompt_tokens, nf4=settings.load_in_4bit, answers=True
    )  # fmt: skip
    needed = estimate([folder], config, reading)
    cached = rows * length * _cached(config) * _BYTES[precision]
    on_gpu = device.startswith("cuda")
    limit = "limits.gpu (--set limits.gpu)" if on_gpu else "limits.ram (--set limits.ram)"
    smaller = "" if settings.load_in_4bit else "set generate.load_in_4bit: true, "
    return Need(
        "generate", needed.ram + (0 if on_gpu else cached),
        f"raise {limit}, {smaller}lower generate.batch_tokens, or use a smaller model",
        gpu=needed.gpu + (cached if on_gpu else 0), weights=needed.weights,
    )  # fmt: skip


def _cached(config: Any) -> int:
    """Numbers that are kept of a token: its key and its value in every layer of the decoder."""
    text = config.get_text_config()
    layers = getattr(text, "num_decoder_layers", None) or text.num_hidden_layers
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or getattr(text, "d_kv", None) or text.hidden_size // heads
    return int(2 * layers * (getattr(text, "num_key_value_heads", None) or heads) * width)
