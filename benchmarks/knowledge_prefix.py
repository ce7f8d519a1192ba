"""Evidence as keys and values against evidence in the row: memory and time, in training and in answering.

A Llama of random weights made from a config (30 M parameters on a CPU, 1.1 B on a GPU) is kept frozen. Either
its rows hold the snippets, packed so that all options share them, and LoRA learns; or an encoder of MiniLM's
shape makes ten positions of each 512 tokens, and learns. Each row is measured in its own process.
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
from transformers import BertConfig, BertModel, set_seed

from benchmarks.common import Watch, parser, report, where
from benchmarks.training_memory import SIZES, WORDS, make_model, make_tokenizer
from kaggle_rag.data.contexts import Snippet
from kaggle_rag.models.answering.item import Item
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import show_size
from training.rankers.dataset import EpochQuestions
from training.rankers.harder import Changes
from training.rankers.preparing import prepared
from training.rankers.settings import RankerRun
from training.rankers.trainer import make_ranker_trainer

LENGTHS = (128, 512, 2048)
# What an encoder reads at once.
_SNIPPET = 512
_QUESTION = 64
_MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
WAYS: dict[str, dict[str, Any]] = {
    "in the row": {"peft": {"method": "lora"}},
    "as keys and values": {"peft": {"method": "knowledge"}},
}


def make_models(folder: Path, size: str) -> None:
    """The decoder and the encoder, each with the tokenizer of one token a word."""
    make_model(folder / "decoder", size)
    tokens = make_tokenizer(folder / "encoder")
    shape = dict(SIZES["quick"]) if size == "quick" else _MINILM
    set_seed(0)
    config = BertConfig(**shape, vocab_size=tokens, max_position_embeddings=_SNIPPET + 8, pad_token_id=0)
    BertModel(config).save_pretrained(folder / "encoder")


def questions(count: int, tokens: int) -> list[Item]:
    """Questions of four options, with snippets of that many tokens in all."""
    rng = random.Random(0)
    made = []
    for _ in range(count):
        sizes = [min(_SNIPPET, tokens - start) for start in range(0, tokens, _SNIPPET)]
        snippets = tuple(Snippet("", " ".join(rng.choices(WORDS, k=size))) for size in sizes)
        made.append(Item("which of these", tuple(rng.sample(WORDS, 4)), (snippets,) * 4, 1))
    return made


def one(way: str, tokens: int, folder: Path, size: str) -> dict[str, float]:
    """Seconds a question and peak memory of training and of answering, measured in this process."""
    device, changes = ("cuda" if size == "cuda" else "cpu"), json.loads(json.dumps(WAYS[way]))
    if changes["peft"]["method"] == "knowledge":
        changes["peft"]["options"] = {"encoder": str(folder / "encoder"), "snippet_tokens": _SNIPPET}
    longest = (tokens if way == "in the row" else 0) + _QUESTION
    settings = RankerRun(
        questions=folder, contexts_file=folder, out=folder, model=str(folder / "decoder"), device=device,
        form="binary", batch=4, epochs=1, max_tokens=longest, **changes,
    )  # fmt: skip
    backbone, card = prepared(settings)
    items, writer = questions(8, tokens), Writer(backbone.tokenizer, card.layout, longest)
    rows = EpochQuestions(items, backbone.form, writer, Changes(seed=0, shuffle=True))
    with tempfile.TemporaryDirectory() as work:
        trainer = make_ranker_trainer(settings, backbone, card, rows, [], Path(work), lambda line: None)
        trainer.args.save_strategy = "no"
        trained = _measured(trainer.train, device)
    backbone.model.eval()
    room = 4 * longest
    answered = _measured(lambda: backbone.form.score(backbone, writer, items, room, quiet=True), device)
    return {
        "train": trained[0] / len(items), "train peak": trained[1],
        "answer": answered[0] / len(items), "answer peak": answered[1],
    }  # fmt: skip


def _measured(work: Any, device: str) -> tuple[float, float]:
    """Seconds, and the memory at its peak: of the GPU, or anonymous memory of the process."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    with Watch() as watch:
        work()
    seconds = time.perf_counter() - start
    return seconds, float(torch.cuda.max_memory_allocated() if device == "cuda" else watch.peak)


def row_of(tokens: int, way: str, found: dict[str, float], first: dict[str, float]) -> dict[str, Any]:
    """A line of the table; times are also given as a share of those in the row."""
    cells: dict[str, Any] = {"snippet tokens": f"{tokens:,}", "evidence": way}
    for kind in ("train", "answer"):
        share = found[kind] / first[kind]
        cells[f"{kind}: s a question"] = f"{found[kind]:.3f} ({share:.2f})"
        cells[f"{kind}: peak memory"] = show_size(int(found[f"{kind} peak"]))
    return cells


def main() -> int:
    flags = parser(str(__doc__))
    names = ("WAY", "TOKENS", "FOLDER", "SIZE")
    flags.add_argument("--only", nargs=4, metavar=names, help="one row, as JSON")
    arguments = flags.parse_args()
    if arguments.only:
        way, tokens, folder, size = arguments.only
        print(json.dumps(one(way, int(tokens), Path(folder), size)))
        return 0
    size = "quick" if arguments.quick else "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make_models(Path(folder), size)
        for tokens in LENGTHS[:1] if arguments.quick else LENGTHS:
            first: dict[str, float] = {}
            for way in WAYS:
                only = ["--only", way, str(tokens), folder, size]
                command = [sys.executable, "-m", "benchmarks.knowledge_prefix", *only]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(done.stderr)
                found = json.loads(done.stdout.splitlines()[-1])
                first = first or found
                rows.append(row_of(tokens, way, found, first))
    report(
        f"A knowledge prefix against snippets in the row ({size})", rows, arguments.json,
        f"{where()}; eight questions of four options, four a batch. In brackets: times as a share of those "
        "with the snippets in the row.",
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
