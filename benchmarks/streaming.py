"""Answers a minute of a model on disk, streamed layer by layer, against accelerate's offload to disk.

A Llama of random weights is written in shards, a layer each, so that it may be larger than memory. Each way
scores the same questions over the same packed rows, in a process of its own, while the files are kept out of
the page cache, in which those of a model larger than memory would not stay; only the order of the loops
differs. accelerate calls the whole model for every batch, and reads every layer each time. With --memory the
model in memory is the third way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from benchmarks.common import Watch, keep_within, parser, report, where
from benchmarks.training_memory import make_tokenizer, questions
from kaggle_rag.models.answering.forms import DECODER
from kaggle_rag.models.answering.packed import PackedOptions
from kaggle_rag.models.checkpoints import INDEX
from kaggle_rag.models.devices import PRECISIONS, dtype_of
from kaggle_rag.models.layouts import Writer
from kaggle_rag.models.loading import Backbone
from kaggle_rag.models.streaming.model import StreamedModel
from kaggle_rag.models.streaming.room import Room
from kaggle_rag.models.streaming.skeleton import Skeleton
from kaggle_rag.runtime.errors import run_program, show_size
from kaggle_rag.runtime.files import write_json
from kaggle_rag.runtime.limits import measured

STREAMED, OFFLOADED, WHOLE = "streamed", "accelerate, disk", "in memory"
_ROW = 512
# Width of an attention head, and how many layers there are for each: the proportions of Llama 2 7B.
_HEAD = 128
# Seconds between two droppings of the page cache.
_FORGET = 0.1


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
        file = f"model-{number:05}.safetensors"
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


@contextmanager
def forgotten(folder: Path) -> Iterator[None]:
    """The system drops the files of a folder from its page cache, again and again: as if memory were full."""
    done = threading.Event()

    def forget() -> None:
        while not done.wait(_FORGET):
            for path in folder.glob("*.safetensors"):
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    thread = threading.Thread(target=forget, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def counted() -> Iterator[list[int]]:
    """Bytes of each weight that accelerate fetches from its files."""
    from accelerate.utils import OffloadedWeightsLoader

    fetched: list[int] = []
    fetch = OffloadedWeightsLoader.__getitem__

    def fetching(loader: Any, key: str) -> torch.Tensor:
        weight: torch.Tensor = fetch(loader, key)
        fetched.append(weight.nbytes if key not in loader.state_dict else 0)
        return weight

    OffloadedWeightsLoader.__getitem__ = fetching
    try:
        yield fetched
    finally:
        OffloadedWeightsLoader.__getitem__ = fetch


def loaded(folder: Path, precision: str, device: str, **options: Any) -> Backbone:
    """The model by transformers, with a form over packed rows."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype_of(precision), **options).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return Backbone(model if options else model.to(device), tokenizer, PackedOptions(), DECODER, ())


def offloaded(folder: Path, precision: str, device: str, spare: Path) -> Backbone:
    """The layers on disk, and what is before and behind them in memory."""
    places = {"model.layers": "disk"} | dict.fromkeys(
        ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), device
    )
    return loaded(folder, precision, device, device_map=places, offload_folder=spare)


def one(name: str, folder: Path, count: int, tokens: int, precision: str, gpu: str) -> dict[str, Any]:
    """Seconds, peak memory, bytes read and scores of one way, measured in this process."""
    keep_within(gpu)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    form = PackedOptions()
    writer = Writer(AutoTokenizer.from_pretrained(folder), form.layout, _ROW)
    items = questions(count, _ROW)
    start = time.perf_counter()
    with (
        measured(name) as usage, Watch() as watch, forgotten(folder),
        tempfile.TemporaryDirectory(dir=folder) as spare,
    ):  # fmt: skip
        if name == STREAMED:
            room = Room(device=1 << 30)
            with StreamedModel(folder, form, device=device, precision=precision, room=room) as model:
                scores = model.score(writer, items, tokens, quiet=True)
                read = model.bytes_read
        else:
            backbone = (
                offloaded(folder, precision, device, Path(spare)) if name == OFFLOADED
                else loaded(folder, precision, device)
            )  # fmt: skip
            with counted() as fetched:
                scores = backbone.form.score(backbone, writer, items, tokens, quiet=True)
            read = sum(fetched)
        seconds = time.perf_counter() - start
    return {
        "seconds": seconds, "peak": usage.gpu_peak or usage.ram_peak, "anonymous": watch.peak, "read": read,
        "scores": scores.tolist(),
    }  # fmt: skip


def run(name: str, *given: Any) -> dict[str, Any]:
    """One way in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.streaming", "--only", name, *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(
    names: list[str], run_way: Callable[[str], dict[str, Any]], count: int
) -> list[dict[str, str | None]]:
    """A row a way, beside the last but the model in memory."""
    found = {name: run_way(name) for name in names}
    theirs = found[OFFLOADED] if OFFLOADED in found else found[names[-1]]
    return [
        {
            "": name, "questions/minute": f"{60 * count / each['seconds']:.1f}",
            "ratio": f"{theirs['seconds'] / each['seconds']:.2f}", "peak": show_size(each["peak"]),
            "anonymous RAM": show_size(each["anonymous"]),
            "bytes read": show_size(each["read"]) if name != WHOLE else None,
            "largest difference": f"{np.abs(np.subtract(each['scores'], theirs['scores'])).max():.0e}",
        } for name, each in found.items()
    ]  # fmt: skip


def main() -> int:
    cuda = torch.cuda.is_available()
    flags = parser(__doc__ or "")
    flags.add_argument(
        "--parameters", type=float, default=7e9 if cuda else 1e9, metavar="N",
        help="weights of the model (default: 1e9, with a GPU 7e9)",
    )  # fmt: skip
    flags.add_argument("--questions", type=int, default=64, metavar="N", help="default: 64")
    flags.add_argument("--batch-tokens", type=int, default=16_384 if cuda else 2_048, metavar="N")
    flags.add_argument("--precision", choices=PRECISIONS, default="fp16" if cuda else "fp32")
    flags.add_argument("--folder", type=Path, help="where the model is written (default: a temporary folder)")
    flags.add_argument(
        "--checkpoint", type=Path, help="the model's own folder: made if it is not there, and kept"
    )  # fmt: skip
    flags.add_argument("--memory", action="store_true", help="the model in memory too: it must fit")
    flags.add_argument("--alone", action="store_true", help="without accelerate's offload")
    flags.add_argument("--nf4", action="store_true", help="linear layers in 4 bits, in the files already")
    flags.add_argument("--gpu", metavar="SIZE", default="", help="GPU memory to keep within, e.g. 15GB")
    flags.add_argument(
        "--only", nargs=6, metavar="X", help="one way: NAME FOLDER QUESTIONS TOKENS PRECISION GPU"
    )  # fmt: skip
    arguments = flags.parse_args()
    if arguments.only:
        name, folder, count, tokens, precision, gpu = arguments.only
        print(json.dumps(one(name, Path(folder), int(count), int(tokens), precision, gpu)))
        return 0
    parameters, count = (2e6, 8) if arguments.quick else (arguments.parameters, arguments.questions)
    # accelerate offloads no weights in 4 bits.
    both = [STREAMED] if arguments.alone or arguments.nf4 else [STREAMED, OFFLOADED]
    names = [*both, *([WHOLE] if arguments.memory else [])]
    precision = arguments.precision
    given = (count, arguments.batch_tokens, precision, arguments.gpu)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        made = arguments.checkpoint or Path(temporary)
        if not (made / "config.json").is_file():
            made.mkdir(parents=True, exist_ok=True)
            make_checkpoint(made, parameters, precision, arguments.nf4)
        size = size_of(made)
        # A quick run's numbers mean nothing, and a process of its own takes seconds to start.
        rows = table(names, lambda name: (one if arguments.quick else run)(name, made, *given), count)
    kind = f"NF4 and {precision}" if arguments.nf4 else precision
    note = (
        f"{where()}; a Llama of {show_size(size)} in {kind}, {count} questions of four options "
        f"behind {_ROW} tokens, {arguments.batch_tokens:,} tokens a batch, loading included, the files kept "
        "out of the page cache. Peak memory is "
        + ("CUDA's allocator's." if cuda else "resident, mapped files included.")
    )
    report("A model on disk, streamed", rows, arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
