"""Models that stay on disk in other libraries' ways, and what keeps a benchmark of them honest.

accelerate and AirLLM call the whole model for every batch, and read every layer each time.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kaggle_rag.models.answering.base import AnswerForm
from kaggle_rag.models.answering.forms import DECODER
from kaggle_rag.models.devices import dtype_of
from kaggle_rag.models.loading import Backbone
from kaggle_rag.runtime.limits import anonymous_memory

# Seconds between two droppings of the page cache (less than a pass over the files takes, and long enough for
# what is read ahead to be used), and between two looks at the memory.
_FORGET, _LOOK = 1.0, 0.02
# What a shell calls a process that was killed.
KILLED = 137


class Opened(NamedTuple):
    """A model by another library, and the bytes of weights that it has read so far."""

    backbone: Backbone
    read: Callable[[], int]


def loaded(folder: Path, form: AnswerForm, precision: str, device: str, **options: Any) -> Backbone:
    """The model by transformers."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype_of(precision), **options).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # A decoder answers at the end of its row.
    tokenizer.padding_side = "left"
    return Backbone(model if options else model.to(device), tokenizer, form, DECODER, ())


@contextmanager
def offloaded(folder: Path, form: AnswerForm, precision: str, device: str, spare: Path) -> Iterator[Opened]:
    """By accelerate: the layers on disk, and what is before and behind them in memory."""
    from accelerate.utils import OffloadedWeightsLoader

    fetched: list[int] = []
    fetch = OffloadedWeightsLoader.__getitem__

    def fetching(loader: Any, key: str) -> torch.Tensor:
        weight: torch.Tensor = fetch(loader, key)
        fetched.append(weight.nbytes if key not in loader.state_dict else 0)
        return weight

    places = {"model.layers": "disk"} | dict.fromkeys(
        ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), device
    )
    OffloadedWeightsLoader.__getitem__ = fetching
    try:
        backbone = loaded(folder, form, precision, device, device_map=places, offload_folder=spare)
        yield Opened(backbone, lambda: sum(fetched))
    finally:
        OffloadedWeightsLoader.__getitem__ = fetch


def has_airllm() -> bool:
    return importlib.util.find_spec("airllm") is not None


@contextmanager
def by_airllm(folder: Path, form: AnswerForm, precision: str, device: str, spare: Path) -> Iterator[Opened]:
    """By AirLLM, which first writes the layers anew, a file each."""
    # It prints what it does.
    with contextlib.redirect_stdout(sys.stderr):
        from airllm import AutoModel

        air = AutoModel.from_pretrained(
            str(folder), device="cuda:0" if device == "cuda" else device, dtype=dtype_of(precision),
            layer_shards_saving_path=str(spare),
        )  # fmt: skip
        read: list[int] = []
        load = air.load_layer_to_cpu

        def loading(name: str) -> dict[str, torch.Tensor]:
            layer: dict[str, torch.Tensor] = load(name)
            read.append(sum(weight.nbytes for weight in layer.values()))
            return layer

        air.load_layer_to_cpu = loading
        air.tokenizer.padding_side = "left"
        yield Opened(Backbone(air.model, air.tokenizer, form, DECODER, ()), lambda: sum(read))


@contextmanager
def forgotten(folder: Path) -> Iterator[None]:
    """The system drops the files of a folder from its page cache, again and again: as if memory were full."""
    done = threading.Event()

    def forget() -> None:
        while not done.wait(_FORGET):
            for path in folder.rglob("*.safetensors"):
                with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    thread = threading.Thread(target=forget, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def end_above(ram: int) -> None:
    """End this process as soon as it takes more anonymous memory than that, as a full machine would."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK):
            if anonymous_memory() > ram:
                os._exit(KILLED)

    threading.Thread(target=watch, daemon=True).start()
