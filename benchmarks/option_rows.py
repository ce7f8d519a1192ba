"""What options are scored with: a Llama of random weights, and questions of random tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, set_seed

from kaggle_rag.models.answering.forms import DECODER, form_of
from kaggle_rag.models.answering.item import Feature
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, resolve
from kaggle_rag.models.loading import Backbone

SIZES: dict[str, dict[str, int]] = {
    "quick": {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 4},
    "cpu": {"hidden_size": 512, "num_hidden_layers": 8, "intermediate_size": 1376, "num_attention_heads": 8},
    "cuda": {"hidden_size": 2048, "num_hidden_layers": 22, "intermediate_size": 5632,
             "num_attention_heads": 32, "num_key_value_heads": 4},
    "7b": {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 11008,
           "num_attention_heads": 32},
}  # fmt: skip
ROTATIONS = 5
TOKENIZER = 30_522
"""Tokens of the one real tokenizer at hand."""
VOCABULARY = {"cpu": 3_000}
"""Fewer where the head would be more than half of a token's cost: in a model of 7 B it is a fiftieth."""


def backbone(size: str, device: str, nf4: bool = False, vocabulary: int = TOKENIZER) -> Backbone:
    """A Llama of random weights, with the one real tokenizer at hand."""
    set_seed(0)
    config = LlamaConfig(vocab_size=vocabulary, max_position_embeddings=4096, pad_token_id=0, **SIZES[size])
    dtype = torch.float16 if device == "cuda" else torch.float32
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    if nf4:
        quantize(model, dtype)
    tokenizer = AutoTokenizer.from_pretrained(resolve(DEFAULT_ENCODER).path)
    tokenizer.padding_side = "left"
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return Backbone(model, tokenizer, form_of("options", DECODER), DECODER, ())


def quantize(model: Any, compute: torch.dtype) -> None:
    """Put the linear layers of a model into NF4, in place, as loading a checkpoint in 4 bits does."""
    import bitsandbytes

    for parent in [*model.base_model.modules()]:
        for name, linear in [*parent.named_children()]:
            if type(linear) is torch.nn.Linear:
                small = bitsandbytes.nn.Linear4bit(
                    linear.in_features, linear.out_features, bias=False, compute_dtype=compute,
                    quant_type="nf4", device="meta",
                )  # fmt: skip
                small.weight = bitsandbytes.nn.Params4bit(
                    linear.weight.data, requires_grad=False, quant_type="nf4"
                ).to(linear.weight.device)
                setattr(parent, name, small)


def made(vocabulary: int, count: int, prefix: int, option: int, options: int) -> list[list[Feature]]:
    """Questions of random tokens: ``options`` rows behind one prefix."""
    rng = np.random.default_rng(0)

    def tokens(size: int) -> list[int]:
        return [int(n) for n in rng.integers(1000, vocabulary, size)]

    questions: list[list[Feature]] = []
    for _ in range(count):
        start = tokens(prefix)
        rows = [start + tokens(option) for _ in range(options)]
        answer = [[False] * prefix + [True] * option for _ in rows]
        questions.append(
            [{
                "input_ids": rows, "attention_mask": [[1] * len(row) for row in rows], "is_answer": answer,
                "present": [True] * options, "labels": 0,
            }]
        )  # fmt: skip
    return questions


def turned(vocabulary: int, count: int, prefix: int, option: int, options: int) -> list[list[Feature]]:
    """Questions that list their options in several orders behind one prefix, answered by a letter."""
    rng = np.random.default_rng(0)
    questions = []
    for _ in range(count):
        start = [int(n) for n in rng.integers(1000, vocabulary, prefix)]
        listed = [[int(n) for n in rng.integers(1000, vocabulary, option)] for _ in range(options)]
        orders = [[*listed[turn:], *listed[:turn]] for turn in range(ROTATIONS)]
        questions.append(
            [{
                "input_ids": [row := start + [token for each in order for token in each]],
                "attention_mask": [[1] * len(row)], "choices": [*range(10, 10 + options)],
                "present": [True] * options, "labels": 0,
            } for order in orders]
        )  # fmt: skip
    return questions
