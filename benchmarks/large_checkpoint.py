"""A Llama of random weights, written in shards without ever being whole in memory."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from benchmarks.training_memory import make_tokenizer
from kaggle_rag.models.checkpoints import INDEX
from kaggle_rag.models.devices import PRECISIONS, dtype_of
from kaggle_rag.models.streaming.skeleton import Skeleton
from kaggle_rag.runtime.files import write_json

# Width of an attention head, and how many layers there are for each: the proportions of Llama 2 7B.
_HEAD = 128


def shape(parameters: float) -> dict[str, int]:
    """A Llama of about so many weights: a layer has 12 times its width squared, and a head a layer."""
    heads = max(1, round((parameters / (12 * _HEAD**2)) ** (1 / 3)))
    width = heads * _HEAD
    return {
        "hidden_size": width, "num_hidden_layers": max(2, heads), "num_attention_heads": heads,
        "intermediate_size": 8 * width // 3 // 64 * 64,
    }  # fmt: skip


def make_checkpoint(folder: Path, parameters: float, precision: str, nf4: bool = False) -> None:
    """Shards, index, config and tokenizer. In memory there is one layer at a time."""
    tokens, dtype = make_tokenizer(folder), dtype_of(precision)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = LlamaConfig(
        vocab_size=tokens, max_position_embeddings=4096, pad_token_id=0, eos_token_id=1, dtype=dtype,
        architectures=["LlamaForCausalLM"], **shape(parameters),
    )  # fmt: skip
    skeleton = Skeleton("AutoModelForCausalLM", config, dtype, "cpu")
    shapes, generator = skeleton.shapes(), torch.Generator(device).manual_seed(0)
    files: dict[str, str] = {}
    size = 0
    for number, part in enumerate(skeleton.parts):
        made: dict[str, torch.Tensor] = {}
        for name in part:
            # Norms of ones, as they are before training.
            weight = torch.ones(shapes[name], dtype=dtype, device=device)
            if "norm" not in name:
                weight.normal_(0, 0.02, generator=generator)
            made |= in_nf4(name, weight) if nf4 and name.endswith("_proj.weight") else {name: weight.cpu()}
        # As on the hub; AirLLM reads the numbers.
        file = f"model-{number + 1:05}-of-{len(skeleton.parts):05}.safetensors"
        save_file(made, folder / file, {"format": "pt"})
        files |= dict.fromkeys(made, file)
        size += sum(weight.nbytes for weight in made.values())
    write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": files})
    if nf4:
        config.quantization_config = {
            "quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": PRECISIONS[precision],
        }  # fmt: skip
    # Last: a checkpoint with a config is whole.
    config.save_pretrained(folder)


def in_nf4(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """A weight in 4 bits, and what belongs to it, by the names that transformers gives them."""
    from bitsandbytes import functional

    packed, state = functional.quantize_4bit(
        weight, blocksize=64, compress_statistics=True, quant_type="nf4"
    )  # fmt: skip
    parts = {f"{name}.{part}": tensor.cpu() for part, tensor in state.as_dict(packed=True).items()}
    return {name: packed.cpu(), **parts}


def size_of(folder: Path) -> int:
    """The weights' bytes."""
    size: int = json.loads((folder / INDEX).read_text())["metadata"]["total_size"]
    return size
