"""Tiny decoders in several files, and the same in memory."""

import json

import torch
from ranker_toys import BACKBONES, DECODERS, WINDOW, tokenizer
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Gemma2Config, Qwen3Config

from kaggle_rag.models.answering.packed import PackedBinaryPrompt, PackedLetters, PackedOptions
from kaggle_rag.models.checkpoints import INDEX
from kaggle_rag.models.loading import load_backbone, with_packing
from kaggle_rag.models.writer import Writer

FORMS = {"options": PackedOptions, "binary": PackedBinaryPrompt, "letters": PackedLetters}
TOKENS = 256
_SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
          "num_key_value_heads": 2, "max_position_embeddings": 64, "head_dim": 16, "pad_token_id": 0,
          "eos_token_id": 1, "bos_token_id": 3}  # fmt: skip


def sliding(vocabulary):
    config = BACKBONES["mistral"](vocabulary)
    config.sliding_window = WINDOW
    return config


# Caps that bend the logits of a tiny model, and scales that are not 1.
MORE = {
    "mistral, sliding": sliding,
    "gemma2": lambda v: Gemma2Config(
        **_SMALL, vocab_size=v, sliding_window=WINDOW, final_logit_softcapping=0.2,
        attn_logit_softcapping=0.5, query_pre_attn_scalar=16,
    ),
    "qwen3": lambda v: Qwen3Config(**_SMALL, vocab_size=v),
}  # fmt: skip


def checkpoint(kind, folder, seed=0, layers=None):
    """A tiny untrained decoder in several shards, with the head of the form ``binary`` too."""
    family = kind.partition(",")[0]
    words = tokenizer(family if family in DECODERS else "llama")
    config = (MORE.get(kind) or BACKBONES[kind])(len(words))
    config.num_hidden_layers = layers or config.num_hidden_layers
    if getattr(config, "layer_types", None):
        config.layer_types = (config.layer_types * config.num_hidden_layers)[: config.num_hidden_layers]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    for name, weight in model.named_parameters():
        # Untrained, every family's norms are ones or zeros, and its biases zeros: the same as none.
        if "norm" in name or "bias" in name:
            weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder, max_shard_size="20KB")
    index = json.loads((folder / INDEX).read_text())
    save_file({"score.weight": torch.randn(1, 64)}, folder / "score.safetensors", {"format": "pt"})
    index["weight_map"]["score.weight"] = "score.safetensors"
    (folder / INDEX).write_text(json.dumps(index))
    words.save_pretrained(folder)
    return folder


def resident(folder, form, **options):
    """The same checkpoint in memory, over packed rows."""
    loaded = load_backbone(str(folder), form, device="cpu", **options)
    loaded.model.eval()
    packed, reason = with_packing(loaded)
    assert not reason
    return packed, Writer(packed.tokenizer, packed.form.layout, 48)
