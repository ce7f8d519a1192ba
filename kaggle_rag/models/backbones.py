"""Backbones that competitors reach for, and the memory that any backbone needs.

Nothing here decides how a backbone is loaded: its ``config.json`` does. The table is a quick reference.
"""

from __future__ import annotations

import dataclasses

from kaggle_rag.models.memory import NF4
from kaggle_rag.runtime.errors import show_size

# One notebook GPU: a T4 has 16 GB, of which CUDA and its libraries take about one.
CARD = 15e9
_HALF = 2
# Weights, gradients and AdamW's two moments in float32 (Rajbhandari et al. 2020, section 3.1).
_TRAINED = 16


@dataclasses.dataclass(frozen=True)
class KnownBackbone:
    """A checkpoint by its hub name.

    ``parameters`` in millions; ``tokens`` is the longest row it was trained to read; ``targets`` are the
    linear layers that LoRA adapts (``all-linear`` means all of them).
    """

    name: str
    family: str
    parameters: float
    layers: int
    hidden: int
    tokens: int
    targets: str


_BERT = "query key value dense"
_LLAMA = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"
_PHI = "qkv_proj o_proj gate_up_proj down_proj"
_T5 = "q k v o wi_0 wi_1 wo"
_DEBERTA = "query_proj key_proj value_proj dense"

BACKBONES = (
    KnownBackbone("sentence-transformers/all-MiniLM-L6-v2", "encoder", 22.7, 6, 384, 512, _BERT),
    KnownBackbone("microsoft/MiniLM-L12-H384-uncased", "encoder", 33.4, 12, 384, 512, _BERT),
    KnownBackbone("microsoft/deberta-v3-small", "encoder", 141, 6, 768, 512, _DEBERTA),
    KnownBackbone("microsoft/deberta-v3-base", "encoder", 184, 12, 768, 512, _DEBERTA),
    KnownBackbone("microsoft/deberta-v3-large", "encoder", 434, 24, 1024, 512, _DEBERTA),
    KnownBackbone("google/electra-base-discriminator", "encoder", 109, 12, 768, 512, _BERT),
    KnownBackbone("google/electra-large-discriminator", "encoder", 334, 24, 1024, 512, _BERT),
    KnownBackbone("FacebookAI/roberta-base", "encoder", 125, 12, 768, 512, _BERT),
    KnownBackbone("FacebookAI/roberta-large", "encoder", 355, 24, 1024, 512, _BERT),
    KnownBackbone("google-bert/bert-base-uncased", "encoder", 110, 12, 768, 512, _BERT),
    KnownBackbone("google-bert/bert-large-uncased", "encoder", 335, 24, 1024, 512, _BERT),
    KnownBackbone("meta-llama/Llama-2-7b-hf", "decoder", 6738, 32, 4096, 4096, _LLAMA),
    KnownBackbone("meta-llama/Llama-2-13b-hf", "decoder", 13016, 40, 5120, 4096, _LLAMA),
    KnownBackbone("meta-llama/Meta-Llama-3-8B", "decoder", 8030, 32, 4096, 8192, _LLAMA),
    KnownBackbone("meta-llama/Llama-3.2-1B", "decoder", 1236, 16, 2048, 131072, _LLAMA),
    KnownBackbone("meta-llama/Llama-3.2-3B", "decoder", 3213, 28, 3072, 131072, _LLAMA),
    KnownBackbone("mistralai/Mistral-7B-v0.1", "decoder", 7242, 32, 4096, 32768, _LLAMA),
    KnownBackbone("microsoft/Phi-3-mini-4k-instruct", "decoder", 3821, 32, 3072, 4096, _PHI),
    KnownBackbone("Qwen/Qwen2.5-0.5B", "decoder", 494, 24, 896, 32768, _LLAMA),
    KnownBackbone("Qwen/Qwen2.5-7B", "decoder", 7616, 28, 3584, 131072, _LLAMA),
    KnownBackbone("google/gemma-2b", "decoder", 2506, 18, 2048, 8192, _LLAMA),
    KnownBackbone("google/gemma-2-9b", "decoder", 9242, 42, 3584, 8192, _LLAMA),
    KnownBackbone("google-t5/t5-base", "encoder-decoder", 223, 24, 768, 512, "q k v o wi wo"),
    KnownBackbone("google/flan-t5-base", "encoder-decoder", 248, 24, 768, 512, _T5),
    KnownBackbone("google/flan-t5-large", "encoder-decoder", 783, 48, 1024, 512, _T5),
    KnownBackbone("google/flan-t5-xl", "encoder-decoder", 2850, 48, 2048, 512, _T5),
)


def inference_bytes(backbone: KnownBackbone, *, nf4: bool = False, tokens: int = 512) -> float:
    """GPU memory to answer with: weights in half precision or 4 bits, and one layer's activations."""
    weights = 1e6 * backbone.parameters * (NF4 if nf4 else _HALF)
    return weights + _activations(backbone, tokens)


def training_bytes(
    backbone: KnownBackbone,
    method: str = "full",
    *,
    tokens: int = 512,
    rows: int = 4,
    checkpointing: bool = True,
) -> float:
    """GPU memory to train with, on ``rows`` rows at once.

    Activations of a layer are ``34 s b h`` bytes in half precision without its attention matrix
    (Korthikanti et al. 2022, https://arxiv.org/abs/2205.05198, equation 2; SDPA keeps no matrix). With
    checkpointing a layer keeps its input, ``2 s b h``, and one layer is recomputed. A tenth is added
    for memory that the allocator cannot use.
    """
    weights = 1e6 * backbone.parameters
    held = {"full": _TRAINED * weights, "lora": _HALF * weights, "qlora": NF4 * weights}[method]
    # LoRA of rank 16 on all linear layers trains about 1 % of the weights.
    adapter = 0.0 if method == "full" else 0.01 * weights * _TRAINED
    layer = _activations(backbone, tokens * rows)
    inputs = 2 * tokens * rows * backbone.hidden
    activations = backbone.layers * inputs + layer if checkpointing else backbone.layers * layer
    return 1.1 * (held + adapter + activations)


def _activations(backbone: KnownBackbone, tokens: int) -> float:
    return 34.0 * tokens * backbone.hidden


def table() -> str:
    """The backbones with their memory on one card of 16 GB, as lines of text."""
    head = ("backbone", "family", "million", "tokens", "answer", "in 4 bits", "train", "by", "LoRA targets")
    rows = [head]
    for one in BACKBONES:
        method = cheapest(one)
        needed = "" if method == "none" else show_size(training_bytes(one, method))
        answer, small = show_size(inference_bytes(one)), show_size(inference_bytes(one, nf4=True))
        rows.append(
            (one.name, one.family, f"{one.parameters:,.0f}", f"{one.tokens:,}", answer, small, needed, method,
             one.targets)
        )  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    note = (
        "Memory is an estimate: rows of 512 tokens; trained on 4 rows at once with gradient checkpointing by "
        "the first of full, lora, qlora\nthat fits in 16 GB (none: shard it with accelerate launch). Any "
        "other checkpoint works too: its config.json says what it is."
    )
    return "\n".join([*lines, "", note])


def cheapest(backbone: KnownBackbone) -> str:
    """The first method of ``full``, ``lora``, ``qlora`` that trains it on one card of 16 GB."""
    return next((m for m in ("full", "lora", "qlora") if training_bytes(backbone, m) <= CARD), "none")
