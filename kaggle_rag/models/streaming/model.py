"""A decoder larger than GPU or RAM answers layer by layer, its weights read from safetensors as it goes.

The outer loop is over layers, the inner one over the questions: every weight is read once for all of them,
and no layer's keys and values outlive it. Between two layers there are only hidden states, which are small
beside a large model and may be on the GPU, in RAM or in a file. (FlexGen, Sheng et al. 2023,
https://arxiv.org/abs/2303.06865, traverses layers and batches in this order, there to generate.)
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from kaggle_rag.models.answering.base import TOKENS, Asked, Batch, too_large
from kaggle_rag.models.answering.item import Item
from kaggle_rag.models.answering.packed import PackedForm
from kaggle_rag.models.devices import dtype_of
from kaggle_rag.models.loading import require_4bit
from kaggle_rag.models.memory import Reading, streamed
from kaggle_rag.models.streaming.hidden_states import HiddenStates, hidden_states
from kaggle_rag.models.streaming.key import key_of
from kaggle_rag.models.streaming.layers import LayerPass, Progress
from kaggle_rag.models.streaming.lora import Lora
from kaggle_rag.models.streaming.pace import Pace
from kaggle_rag.models.streaming.room import DEVICE, RAM, Room
from kaggle_rag.models.streaming.shards import Arrival, Named, Parts, Shards
from kaggle_rag.models.streaming.skeleton import Skeleton, config_for
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.limits import Need, release

_Batches = Sequence[tuple[npt.NDArray[np.int64], Batch]]
# Questions that are sorted by length among themselves; where time is short, the last batches are left out.
_GROUP = 64


class Scored(NamedTuple):
    """Logits of each question's options ``(n, k)``, and which questions were asked ``(n,)`` bool."""

    logits: npt.NDArray[np.float64]
    asked: npt.NDArray[np.bool_]


def _forever() -> float:
    return float("inf")


class StreamedModel:
    """Scores of a packed form, as `AnswerForm.score` gives them with the model in memory.

    Opening it reads no weights, but checks that all of them are there; used in a ``with`` block.

    Parameters
    ----------
    folder : a checkpoint in safetensors, in whole numbers or in bitsandbytes' 4 or 8 bits.
    form : what is asked; it decides the head.
    device, precision : where it computes, and in what: a key of `kaggle_rag.models.devices.PRECISIONS`.
    more : further devices, which share the questions of each layer; its weights are read once for all.
    adapter : folder of a LoRA adapter of PEFT, merged into each weight as it arrives.
    labels : of a binary head, 1 or 2.
    nf4 : quantize linear layers to 4 bits as they arrive, as `load_backbone` does with the model in memory.
    room : what may be kept between layers and between passes.

    Raises
    ------
    CheckpointError : a file or tensor is missing, damaged or of a wrong shape, or the adapter is for another
        base.
    ConfigError : a family whose layers cannot be run one by one, an adapter that is not LoRA, or weights
        quantized in a way that is not read here.
    """

    def __init__(
        self, folder: Path, form: PackedForm, *, device: str = "cpu", precision: str = "fp32",
        adapter: Path | None = None, labels: int = 1, nf4: bool = False, room: Room | None = None,
        more: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.folder, self.form, self.device, self.room = folder, form, device, room or Room()
        self.precision, self.dtype, self._nf4 = precision, dtype_of(precision), nf4
        if nf4:
            require_4bit()
        self._pace: Pace | None = None
        self._questions = 0
        config = config_for(folder, form, labels)
        self._adapter = Lora(adapter) if adapter else None
        self._shards = Shards(folder)
        self._skeletons = [
            Skeleton(form.auto, copy.deepcopy(config), self.dtype, each) for each in (device, *more)
        ]
        self._skeleton = self._skeletons[0]
        self._shapes = self._skeleton.shapes()
        own: set[str] = set()
        if self._adapter:
            self._adapter.require_fitting(self._shapes)
            own = {*self._adapter.replaced}
        self._shards.require(
            {self._skeleton.tied.get(name, name): shape
             for name, shape in self._shapes.items() if name not in own}
        )  # fmt: skip
        self._parts = self._new_parts()

    def __enter__(self) -> StreamedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What was resident is dropped.
        self._parts = self._new_parts()
        release()

    @property
    def bytes_read(self) -> int:
        """Bytes of weights that were read from files so far."""
        return self._shards.bytes_read

    def score(
        self,
        writer: Writer,
        items: Sequence[Item],
        batch_tokens: int | None = None,
        *,
        rotations: int = 1,
        quiet: bool = False,
    ) -> npt.NDArray[np.float64]:
        """Logits of each question's options, ``(n, k)``; see `AnswerForm.score`.

        One pass over the layers, or several where the hidden states of all questions have no room.

        Raises
        ------
        LimitError, ArtifactError : see `score_within`.
        """
        asked = np.zeros(len(items), dtype=bool)
        table = np.empty((len(items), max(len(item.options) for item in items)))
        while not asked.all():
            rows = np.flatnonzero(~asked)
            some = [items[int(row)] for row in rows]
            found = self.score_within(writer, some, _forever, batch_tokens, rotations=rotations, quiet=quiet)
            table[rows] = np.finfo(np.float32).min
            table[rows, : found.logits.shape[1]] = found.logits
            asked[rows] = found.asked
        return table

    def score_within(
        self, writer: Writer, items: Sequence[Item], left: Callable[[], float],
        batch_tokens: int | None = None, *, rotations: int = 1, quiet: bool = False,
    ) -> Scored:  # fmt: skip
        """One pass over the layers with as many questions, from the first, as time and room allow.

        A pass that was killed resumes behind the last layer that is in its files, with its questions.

        Parameters
        ----------
        items : the most important first; they are asked in groups, those of a group by length.
        left : the seconds that are left.

        Raises
        ------
        LimitError : not even the hidden states of one batch have room.
        ArtifactError : a process is working in the room's folder.
        """
        collate = self.form.collator(writer.tokenizer, 8 if self.device.startswith("cuda") else None, True)
        asked = Asked(self.form, collate, writer, items, rotations)
        tokens = batch_tokens or TOKENS[self.device.partition(":")[0]]
        while True:
            try:
                return self._pass(asked, [*asked.batches(tokens, _GROUP)], left, rotations, quiet)
            except torch.OutOfMemoryError as error:
                # The first layer tells: no later one needs more.
                if tokens < writer.max_tokens:
                    raise too_large() from error
                release()
                tokens //= 2
                say(f"note: out of memory: asking in batches of {tokens:,} tokens")

    def _pass(
        self, asked: Asked, batches: _Batches, left: Callable[[], float], rotations: int, quiet: bool
    ) -> Scored:
        """The questions of as many batches as time and room allow."""
        width = self._skeleton.model.config.get_text_config().hidden_size
        shapes = [torch.Size((*batch["input_ids"].shape, width)) for _, batch in batches]
        sizes = [shape.numel() * self.dtype.itemsize for shape in shapes]
        placed = self._shared_room().placed(sizes, self.device)
        self._parts.keep(self.room.kept(placed, self.device))
        key = key_of(
            self._shards.files, self._adapter.folder if self._adapter else None, self._skeleton.model.config,
            (batch for _, batch in batches), precision=self.precision, nf4=self._nf4,
            device=self.device.partition(":")[0],
        )  # fmt: skip
        folder = self.room.folder_for(placed)
        kept = hidden_states(shapes, placed, folder, key, dtype=self.dtype, device=self.device)
        with self._parts, torch.inference_mode(), kept as states:
            count = self._run(batches, states, left, rotations, quiet)
            if count:
                self._answer(asked, batches[:count], states)
        which = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in batches[:count])])
        return Scored(asked.scores(), np.isin(np.arange(len(asked.items)), which // rotations))

    def _run(
        self, batches: _Batches, states: HiddenStates, left: Callable[[], float], rotations: int, quiet: bool
    ) -> int:
        """How many of the batches went through all layers."""
        sizes = self._sizes()
        head = sizes[-1] / max(1, max(sizes[1:-1]))
        inputs = [batch for _, batch in batches]
        pace = Pace([b["input_ids"].numel() for b in inputs], [len(b["reads"]) for b in inputs], head)
        if self._pace is not None:
            pace.read, pace.move, pace.token = self._pace.read, self._pace.move, self._pace.token
        ends = np.cumsum([0, *(len(rows) // rotations for rows, _ in batches)])
        self._pace, self._questions = pace, int(ends[-1])
        told = Progress(self.folder.name, lambda count: int(ends[count]), quiet)
        return LayerPass(self._skeletons, self._parts, inputs, states, pace, left, told).run(self.layers)

    def forecast(self, questions: int) -> float:
        """Seconds of a pass with so many questions like those of the pass before."""
        if self._pace is None:
            raise RuntimeError("a pass is forecast before there was one")
        return self._pace.scaled(questions / self._questions).seconds(1, self.layers)

    def _answer(self, asked: Asked, batches: _Batches, states: HiddenStates) -> None:
        """The head over the tokens whose outputs are needed."""
        (weights,) = self._parts.take(self.layers + 1, 1)
        with self._skeleton.filled(weights):
            for number, (rows, batch) in enumerate(batches):
                here = {key: value.to(self.device) for key, value in batch.items()}
                hidden = states.get(number).flatten(0, 1)[here["reads"]]
                outputs = self._skeleton.outputs(hidden).float()
                asked.answer(rows, self.form.of_outputs(outputs, here))

    @property
    def layers(self) -> int:
        """How many layers the model has."""
        return len(self._skeleton.parts) - 2

    def need(self, tokens: int, max_tokens: int, batch_tokens: int | None = None) -> Need:
        """What answering takes at its peak, from the headers of the files.

        Two parts of the model at a time (a layer and the next, or the embedding, or the head), what stays
        resident, the hidden states of ``tokens`` padded tokens, and the activations of one batch of rows
        of ``max_tokens``.

        Raises
        ------
        LimitError : the hidden states are too many for RAM, and no folder is named.
        """
        config = self._skeleton.model.config
        states = tokens * config.get_text_config().hidden_size * self.dtype.itemsize
        place = self._shared_room().placed([states], self.device).place
        most = batch_tokens or TOKENS[self.device.partition(":")[0]]
        found = streamed(
            self._sizes(), self.room.resident or 0, config,
            Reading(self.device, self.precision, max(1, most // max_tokens), max_tokens,
                    answers=not self.form.has_head),
            states_ram=states if place == RAM else 0, states_gpu=states if place == DEVICE else 0,
        )  # fmt: skip
        return Need(
            f"stream: {self.folder.name}", found.ram,
            "lower batch_tokens, keep less resident, or name a folder for hidden states",
            gpu=found.gpu, weights=found.weights, size=sum(self._sizes()),
        )  # fmt: skip

    def _shared_room(self) -> Room:
        """Hidden states that several devices read are in RAM."""
        return dataclasses.replace(self.room, device=0) if len(self._skeletons) > 1 else self.room

    def _new_parts(self) -> Parts:
        named = Named(self._skeleton.parts, self._shapes, self._skeleton.tied)
        arrival = Arrival(self.dtype, self._adapter, self._nf4)
        return Parts(self._shards, named, arrival, [each.device for each in self._skeletons])

    def _sizes(self) -> list[int]:
        """Bytes of each part in memory."""
        counts = {name: int(np.prod(shape)) for name, shape in self._shapes.items()}
        return [sum(counts[name] for name in part) * self.dtype.itemsize for part in self._skeleton.parts]
