"""Steps of training on a GPU: a DeBERTa-shaped ranker in mixed fp16, and a QLoRA adapter of a large decoder.

Weights are random, in the shape of deberta-v3-large and of a Llama of 7 B; --checkpoint names another
decoder. On a CPU, or with --quick, the shapes are tiny, and numbers are bf16 without a GPU: it only shows
that the same commands run.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, DebertaV2Config, set_seed

from benchmarks.common import keep_within, parser, report, where
from benchmarks.large_checkpoint import make_checkpoint
from benchmarks.training_memory import make_tokenizer, questions
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import run_program, show_size
from kaggle_rag.runtime.limits import measured
from training.rankers.dataset import EpochQuestions
from training.rankers.harder import Changes
from training.rankers.preparing import prepared
from training.rankers.settings import RankerRun
from training.rankers.trainer import make_ranker_trainer

DEBERTA, QLORA = "deberta", "qlora"
_COMMON: dict[str, Any] = {"batch": 1, "accumulate": 4, "gradient_checkpointing": True, "epochs": 1}
RUNS: dict[str, dict[str, Any]] = {
    DEBERTA: {**_COMMON, "form": "choice"},
    QLORA: {**_COMMON, "form": "binary", "peft": {"method": "qlora"}},
}
# Weights of the decoder, and the questions and tokens of its rows.
_LARGE, _SMALL = 7e9, 2e6
_SHAPE = {False: (16, 512), True: (8, 64)}


def make_deberta(folder: Path, quick: bool) -> None:
    """A checkpoint in the shape of deberta-v3-large, or a tiny one of the same kind."""
    tokens = make_tokenizer(folder)
    size = (
        {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
        if quick
        else {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
              "intermediate_size": 4096}
    )  # fmt: skip
    config = DebertaV2Config(
        vocab_size=tokens, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=256,
        share_att_key=True, norm_rel_ebd="layer_norm", position_biased_input=False, pad_token_id=0,
        max_position_embeddings=512, **size,
    )  # fmt: skip
    set_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)


def one(name: str, folder: Path, quick: bool) -> dict[str, str]:
    """A row: seconds of a step, its peak memory, and the loss, which must be a number."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    count, tokens = _SHAPE[quick]
    settings = RankerRun(
        questions=folder, out=folder, model=str(folder), device=device, max_tokens=tokens,
        precision="fp16" if device == "cuda" else "bf16", **RUNS[name],
    )  # fmt: skip
    with measured(name) as usage, tempfile.TemporaryDirectory() as work:
        backbone, card = prepared(settings)
        rows = EpochQuestions(
            questions(count, tokens), backbone.form, Writer(backbone.tokenizer, card.layout, tokens),
            Changes(seed=0, shuffle=True),
        )  # fmt: skip
        trainer = make_ranker_trainer(settings, backbone, card, rows, [], Path(work), lambda line: None)
        trainer.args.save_strategy = "no"
        start = time.perf_counter()
        loss = trainer.train().training_loss
        seconds = time.perf_counter() - start
    if not math.isfinite(loss):
        raise SystemExit(f"{name}: the loss is {loss}")
    trained = sum(weight.numel() for weight in backbone.model.parameters() if weight.requires_grad)
    steps = trainer.state.global_step
    return {
        "": name, "weights trained": f"{trained:,}", "steps": str(steps),
        "seconds a step": f"{seconds / steps:.2f}", "questions/s": f"{count / seconds:.2f}",
        "peak": show_size(usage.gpu_peak or usage.ram_peak), "loss": f"{loss:.3f}",
    }  # fmt: skip


def main() -> int:
    flags = parser(__doc__ or "")
    flags.add_argument("run", choices=RUNS)
    flags.add_argument(
        "--checkpoint", type=Path, metavar="FOLDER", help="the decoder (default: one made on the spot)"
    )
    flags.add_argument("--gpu", metavar="SIZE", help="GPU memory to keep within, e.g. 15GB")
    arguments = flags.parse_args()
    keep_within(arguments.gpu)
    quick = arguments.quick or not torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.run == DEBERTA:
            make_deberta(folder, quick)
        elif arguments.checkpoint:
            folder = arguments.checkpoint
        else:
            make_checkpoint(folder, _SMALL if quick else _LARGE, "fp32" if quick else "fp16")
        rows = [one(arguments.run, folder, quick)]
    count, tokens = _SHAPE[quick]
    note = f"{where()}; {count} questions of four options, rows of {tokens} tokens, random weights."
    report("Training steps", rows, arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
