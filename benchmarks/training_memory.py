"""The memory ladder: one model trained in less and less memory, one row per step, each in its own process.

The model is a Llama with random weights made from a config: 1.1 B parameters on a GPU, 30 M on a CPU. Every
row reads the same questions, eight per step.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, set_seed

from benchmarks.common import Watch, parser, report
from kaggle_rag.data.contexts import paragraphs_as_snippets
from kaggle_rag.models.answering.item import Item
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import show_size
from training.rankers.dataset import EpochQuestions
from training.rankers.harder import Changes
from training.rankers.preparing import prepared
from training.rankers.settings import RankerRun
from training.rankers.trainer import make_ranker_trainer

WORDS = [f"w{number}" for number in range(900)]
SIZES: dict[str, dict[str, int]] = {
    "quick": {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 4},
    "cpu": {"hidden_size": 512, "num_hidden_layers": 9, "intermediate_size": 1376, "num_attention_heads": 8},
    "cuda": {"hidden_size": 2048, "num_hidden_layers": 22, "intermediate_size": 5632,
             "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32_000},
}  # fmt: skip
SHAPE = {"quick": (16, 64), "cpu": (16, 256), "cuda": (64, 512)}
_SMALL = {"batch": 1, "accumulate": 8}
_LEAN = {**_SMALL, "gradient_checkpointing": True}
_HALF = {**_LEAN, "precision": "half"}
LADDER: dict[str, dict[str, Any]] = {
    "batch 8": {"batch": 8},
    "batch 1, accumulate 8": _SMALL,
    "and checkpointing": _LEAN,
    "and mixed precision": _HALF,
    "and 8-bit AdamW": {**_HALF, "optimizer": "adamw-8bit"},
    "Adafactor in its place": {**_HALF, "optimizer": "adafactor"},
    "LoRA": {**_HALF, "peft": {"method": "lora"}},
    "QLoRA": {**_HALF, "peft": {"method": "qlora"}},
}


def make_tokenizer(folder: Path) -> int:
    """A tokenizer of one token a word; the number of its tokens."""
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    words.save_pretrained(folder)
    return len(vocabulary)


def make_model(folder: Path, size: str) -> None:
    """A checkpoint of random weights with that tokenizer."""
    tokens = make_tokenizer(folder)
    shape = {"vocab_size": tokens, "max_position_embeddings": 4_096, **SIZES[size]}
    config = LlamaConfig(**shape, pad_token_id=0, eos_token_id=1)
    set_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def questions(count: int, tokens: int) -> list[Item]:
    rng = random.Random(0)
    made = []
    for _ in range(count):
        context = paragraphs_as_snippets(" ".join(rng.choices(WORDS, k=tokens)))
        made.append(Item("which of these", tuple(rng.sample(WORDS, 4)), (context,) * 4, 1))
    return made


def one(name: str, model: Path, size: str) -> dict[str, Any]:
    """Peak memory and speed of one row, measured in this process."""
    device = "cuda" if size == "cuda" else "cpu"
    changes = dict(LADDER[name])
    if changes.get("precision") == "half":
        changes["precision"] = "auto" if device == "cuda" else "bf16"
    count, tokens = SHAPE[size]
    given = {"precision": "fp32", **changes, "epochs": 1, "max_tokens": tokens, "form": "binary"}
    settings = RankerRun(questions=model, out=model, model=str(model), device=device, **given)
    backbone, card = prepared(settings)
    rows = EpochQuestions(
        questions(count, tokens), backbone.form, Writer(backbone.tokenizer, card.layout, tokens),
        Changes(seed=0, shuffle=True),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, Watch() as watch:
        trainer = make_ranker_trainer(settings, backbone, card, rows, [], Path(folder), lambda line: None)
        trainer.args.save_strategy = "no"
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else watch.peak
    trained = sum(weight.numel() for weight in backbone.model.parameters() if weight.requires_grad)
    return {"peak": peak, "speed": count / seconds, "trained": trained}


def main() -> None:
    flags = parser(__doc__ or "")
    flags.add_argument("--only", nargs=3, metavar=("ROW", "MODEL", "SIZE"), help="one row, as JSON")
    arguments = flags.parse_args()
    if arguments.only:
        name, model, size = arguments.only
        print(json.dumps(one(name, Path(model), size)))
        return
    size = "quick" if arguments.quick else "cuda" if torch.cuda.is_available() else "cpu"
    rows: list[dict[str, str]] = []
    first = 0
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), size)
        # A quick run shows that everything works; its numbers mean nothing.
        ladder = ["batch 8", "LoRA", "QLoRA"] if arguments.quick else list(LADDER)
        for name in ladder:
            command = [sys.executable, "-m", "benchmarks.training_memory", "--only", name, folder, size]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            found = json.loads(done.stdout.splitlines()[-1])
            first = first or found["peak"]
            rows.append(
                {
                    "": name, "weights trained": f"{found['trained']:,}",
                    "peak memory": show_size(found["peak"]), "of the first": f"{found['peak'] / first:.2f}",
                    "questions/s": f"{found['speed']:.2f}",
                }
            )  # fmt: skip
    report(f"Memory of training ({size})", rows, arguments.json, _note(size))


def _note(size: str) -> str:
    where = torch.cuda.get_device_name() if size == "cuda" else "CPU"
    count, tokens = SHAPE[size]
    peak = "as CUDA's allocator counts it" if size == "cuda" else "anonymous memory of the process"
    return f"{where}; {count} questions of four options, rows of {tokens} tokens; peak memory {peak}."


if __name__ == "__main__":
    main()
