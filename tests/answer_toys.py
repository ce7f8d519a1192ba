"""Tiny models that generate many words, and questions for them."""

import json
import random

import torch
from ranker_toys import BACKBONES, DECODERS, SPECIAL, WORDS, tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

# The number of a word that ends an answer in these models: it is generated as often as any.
END = WORDS[0]


def speaker(kind, folder, *, seed=0, end=True, positions=128):
    """A checkpoint whose weights are so large that what it says depends on all that it reads.

    ``end``: whether a word ends its answers, besides the end token that it never learnt to say.
    """
    words = tokenizer(kind)
    torch.manual_seed(seed)
    config = BACKBONES[kind](len(words))
    if kind in DECODERS:
        config.max_position_embeddings = positions
    auto = AutoModelForCausalLM if kind in DECODERS else AutoModelForSeq2SeqLM
    model = auto.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.25 if kind in DECODERS else 0.5)
        # Special tokens are never said: they would not be seen in an answer.
        head = model.get_output_embeddings().weight
        head[: len(SPECIAL)] *= 0.01
    model.generation_config.eos_token_id = [1, words.convert_tokens_to_ids(END)] if end else 1
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def asked(count, seed=0):
    """Rows of questions with contexts of very different lengths, without options."""
    rng = random.Random(seed)
    return [
        {"id": f"q{number}", "prompt": " ".join(rng.choices(WORDS, k=rng.randint(1, 6))) + " ?",
         "context": " ".join(rng.choices(WORDS, k=rng.randint(1, 30))), "answer": [rng.choice(WORDS)]}
        for number in range(count)
    ]  # fmt: skip


def write_rows(path, rows):
    """The rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
