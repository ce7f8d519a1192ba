"""Answers a minute of a model on disk, streamed layer by layer, against AirLLM and accelerate's offload.

A Llama of random weights is written in shards, a layer each, so that it may be larger than memory. Each way
scores the same questions in a process of its own, while the files are kept out of the page cache, in which
those of a model larger than memory would not stay. The others call the whole model for every batch, and read
every layer each time: AirLLM an option at a time as in its examples, the options of a question together, and
over our packed rows; accelerate over packed rows. With --memory the model in memory is the last way.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoTokenizer

from benchmarks.common import Watch, keep_within, parser, report, where
from benchmarks.disk_models import (
    KILLED,
    Opened,
    by_airllm,
    end_above,
    forgotten,
    has_airllm,
    loaded,
    offloaded,
)
from benchmarks.large_checkpoint import make_checkpoint, size_of
from benchmarks.training_memory import WORDS
from kaggle_rag.data.contexts import paragraphs_as_snippets
from kaggle_rag.models.answering.item import Item
from kaggle_rag.models.answering.options import Options
from kaggle_rag.models.answering.packed import PackedOptions
from kaggle_rag.models.devices import PRECISIONS
from kaggle_rag.models.streaming.model import StreamedModel
from kaggle_rag.models.streaming.room import Room
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import run_program, show_size
from kaggle_rag.runtime.limits import measured, parse_size


class Setting(NamedTuple):
    """What every way is given: a checkpoint, questions behind so many tokens, and limits in bytes."""

    folder: str
    questions: int
    others: int
    row: int
    tokens: int
    precision: str
    gpu: str = ""
    ram: int = 0

    def items(self) -> list[Item]:
        """Five options behind a context that fills the row."""
        rng = random.Random(0)
        made = []
        for _ in range(self.questions):
            context = paragraphs_as_snippets(" ".join(rng.choices(WORDS, k=self.row)))
            made.append(Item("which of these", tuple(rng.sample(WORDS, 5)), (context,) * 5, 1))
        return made


def alone(items: Sequence[Item]) -> list[Item]:
    """Each option of each question as a question of its own."""
    return [
        item._replace(options=tuple(o if p == place else None for p, o in enumerate(item.options)))
        for item in items for place in item.places
    ]  # fmt: skip


def one(name: str, given: Setting) -> dict[str, Any]:
    """Seconds, peak memory, bytes read and probabilities of one way, measured in this process."""
    keep_within(given.gpu)
    if given.ram and name != WHOLE:
        end_above(given.ram)
    folder, device = Path(given.folder), "cuda" if torch.cuda.is_available() else "cpu"
    items = given.items()
    if name in (AIR_OPTION, AIR_QUESTION):
        items = items[: given.others]
    elif name != STREAMED:
        # As many as fill a batch.
        items = items[: max(given.others, given.tokens // given.row)]
    with (
        measured(name) as usage, Watch() as watch, forgotten(folder),
        tempfile.TemporaryDirectory(dir=folder) as spare,
    ):  # fmt: skip
        scores, read, seconds = WAYS[name](given, folder, device, Path(spare), items)
    likely = np.exp(scores - scores.max(axis=1, keepdims=True))
    return {
        "seconds": seconds, "questions": len(items), "peak": usage.gpu_peak or usage.ram_peak,
        "anonymous": watch.peak, "read": read, "likely": (likely / likely.sum(1, keepdims=True)).tolist(),
    }  # fmt: skip


def streamed(given: Setting, folder: Path, device: str, spare: Path, items: list[Item]) -> Found:
    form, room = PackedOptions(), Room(device=1 << 30)
    writer = Writer(AutoTokenizer.from_pretrained(folder), form.layout, given.row)
    with StreamedModel(folder, form, device=device, precision=given.precision, room=room) as model:
        start = time.perf_counter()
        scores = model.score(writer, items, given.tokens, quiet=True)
        return scores, model.bytes_read, time.perf_counter() - start


def whole(given: Setting, folder: Path, device: str, spare: Path, items: list[Item]) -> Found:
    opened = Opened(loaded(folder, PackedOptions(), given.precision, device), lambda: 0)
    return asked(opened, given, items)


def offload(given: Setting, folder: Path, device: str, spare: Path, items: list[Item]) -> Found:
    with offloaded(folder, PackedOptions(), given.precision, device, spare) as opened:
        return asked(opened, given, items)


def air_packed(given: Setting, folder: Path, device: str, spare: Path, items: list[Item]) -> Found:
    with by_airllm(folder, PackedOptions(), given.precision, device, spare) as opened:
        return asked(opened, given, items)


def air_question(given: Setting, folder: Path, device: str, spare: Path, items: list[Item]) -> Found:
    with by_airllm(folder, Options(), given.precision, device, spare) as opened:
        return asked(opened, given, items, tokens=1)


def air_option(given: Setting, folder: Path, device: str, spare: Path, items: list[Item]) -> Found:
    with by_airllm(folder, Options(), given.precision, device, spare) as opened:
        scores, read, seconds = asked(opened, given, alone(items), tokens=1)
        return scores.max(axis=1).reshape(len(items), -1), read, seconds


def asked(opened: Opened, given: Setting, items: list[Item], tokens: int | None = None) -> Found:
    """Scores, bytes read and seconds, without opening the model; ``tokens`` of 1: a question at a time."""
    backbone = opened.backbone
    writer = Writer(backbone.tokenizer, backbone.form.layout, given.row)
    before, start = opened.read(), time.perf_counter()
    scores = backbone.form.score(backbone, writer, items, tokens or given.tokens, quiet=True)
    return scores, opened.read() - before, time.perf_counter() - start


Found = tuple[npt.NDArray[np.float64], int, float]
STREAMED, WHOLE, OFFLOADED = "streamed", "in memory", "accelerate, packed rows"
AIR_OPTION, AIR_QUESTION, AIR_PACKED = (
    "AirLLM, a forward an option", "AirLLM, a forward a question", "AirLLM, packed rows"
)  # fmt: skip
WAYS: dict[str, Callable[[Setting, Path, str, Path, list[Item]], Found]] = {
    STREAMED: streamed, AIR_OPTION: air_option, AIR_QUESTION: air_question, AIR_PACKED: air_packed,
    OFFLOADED: offload, WHOLE: whole,
}  # fmt: skip


def run(name: str, given: Setting) -> dict[str, Any]:
    """One way in a process of its own; empty if it took more memory than it may."""
    command = [sys.executable, "-m", "benchmarks.streaming", "--only", name, json.dumps(given._asdict())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == KILLED:
        return {}
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(
    names: list[str], run_way: Callable[[str], dict[str, Any]], questions: int
) -> list[dict[str, str | None]]:
    """A row a way; probabilities beside those of the model in memory, or of the last way."""
    found = {name: run_way(name) for name in names}
    right = found[names[-1]].get("likely", [])
    ours = 60 * found[STREAMED]["questions"] / found[STREAMED]["seconds"]
    return [_row(name, each, ours, right, questions) for name, each in found.items()]


def _row(name: str, each: dict[str, Any], ours: float, right: Any, questions: int) -> dict[str, str | None]:
    if not each:
        return {"": name, "questions asked": "out of memory"}
    pace, count = 60 * each["questions"] / each["seconds"], min(len(right), each["questions"])
    off = np.abs(np.subtract(each["likely"][:count], right[:count])).max() if count else None
    return {
        "": name, "questions asked": f"{each['questions']:,}", "questions/minute": f"{pace:.2f}",
        "streamed is faster": f"{ours / pace:.1f} x", "peak": show_size(each["peak"]),
        "anonymous RAM": show_size(each["anonymous"]),
        f"bytes read for {questions:,}": show_size(each["read"] * questions / each["questions"])
        if name != WHOLE else None,
        "largest difference": None if off is None else f"{off:.0e}",
    }  # fmt: skip


def _flags(cuda: bool) -> argparse.ArgumentParser:
    flags = parser(__doc__ or "")
    flags.add_argument(
        "--parameters", type=float, default=7e9 if cuda else 1.1e9, metavar="N",
        help="weights of the model (default: 1.1e9, with a GPU 7e9)",
    )  # fmt: skip
    flags.add_argument("--questions", type=int, default=100, metavar="N", help="default: 100")
    flags.add_argument(
        "--others", type=int, default=4, metavar="N", help="questions for the other ways (default: 4)"
    )  # fmt: skip
    flags.add_argument("--row", type=int, default=256, metavar="N", help="tokens of a row (default: 256)")
    flags.add_argument("--batch-tokens", type=int, default=16_384 if cuda else 1_024, metavar="N")
    flags.add_argument("--precision", choices=PRECISIONS, default="fp16" if cuda else "fp32")
    flags.add_argument("--folder", type=Path, help="where the model is written (default: a temporary folder)")
    flags.add_argument(
        "--checkpoint", type=Path, help="the model's own folder: made if it is not there, and kept"
    )  # fmt: skip
    flags.add_argument("--memory", action="store_true", help="the model in memory too: it must fit")
    flags.add_argument("--alone", action="store_true", help="without the other libraries")
    flags.add_argument("--nf4", action="store_true", help="linear layers in 4 bits, in the files already")
    flags.add_argument("--gpu", metavar="SIZE", default="", help="GPU memory to keep within, e.g. 15GB")
    flags.add_argument(
        "--ram", metavar="SIZE", help="anonymous memory for each way (default on a CPU: a third of the model)"
    )  # fmt: skip
    flags.add_argument("--only", nargs=2, metavar=("NAME", "JSON"), help="one way")
    return flags


def main() -> int:
    cuda = torch.cuda.is_available()
    arguments = _flags(cuda).parse_args()
    if arguments.only:
        name, given = arguments.only
        print(json.dumps(one(name, Setting(**json.loads(given)))))
        return 0
    quick, precision = arguments.quick, arguments.precision
    # Neither of the others streams weights in these 4 bits.
    others = [] if arguments.alone or arguments.nf4 else [OFFLOADED]
    if others and has_airllm():
        others = [AIR_OPTION, AIR_QUESTION, AIR_PACKED, *others]
    names = [STREAMED, *others, *([WHOLE] if arguments.memory else [])]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        made = arguments.checkpoint or Path(temporary)
        if not (made / "config.json").is_file():
            made.mkdir(parents=True, exist_ok=True)
            make_checkpoint(made, 2e6 if quick else arguments.parameters, precision, arguments.nf4)
        size = size_of(made)
        ram = parse_size(arguments.ram) if arguments.ram else 0 if cuda or quick else size // 3
        setting = Setting(
            str(made), 8 if quick else arguments.questions, 2 if quick else arguments.others, arguments.row,
            arguments.batch_tokens, precision, arguments.gpu, ram,
        )  # fmt: skip
        # A quick run's numbers mean nothing, and a process of its own takes seconds to start.
        rows = table(names, lambda name: (one if quick else run)(name, setting), setting.questions)
    report("A model on disk, streamed", rows, arguments.json, _note(setting, size, arguments.nf4, others))
    return 0


def _note(given: Setting, size: int, nf4: bool, others: list[str]) -> str:
    kind = f"NF4 and {given.precision}" if nf4 else given.precision
    peak = "CUDA's allocator's" if torch.cuda.is_available() else "resident, mapped files included"
    said = [
        f"{where()}; a Llama of {show_size(size)} in {kind}; questions of five options in rows of "
        f"{given.row} tokens, {given.tokens:,} tokens a batch; opening the model is not counted, and the "
        f"files are kept out of the page cache. Peak memory is {peak}."
    ]
    if others:
        said.append("The other ways were asked the first questions only; their bytes are scaled to all.")
    if others and AIR_PACKED not in others:
        said.append("AirLLM is not installed (the extra bench).")
    if given.ram:
        said.append(
            f"A way that takes more than {show_size(given.ram)} of anonymous memory is ended (watched every "
            "20 ms; the model in memory is exempt)."
        )
    return " ".join(said)


if __name__ == "__main__":
    sys.exit(run_program(main))
