"""A decoder larger than GPU or RAM answers layer by layer, its weights read from safetensors as it goes.

The outer loop is over layers, the inner one over the questions: every weight is read once for all of them,
and no layer's keys and values outlive it. Between two layers there are only hidden states, which are small
beside a large model and may be on the GPU, in RAM or in a file. (FlexGen, Sheng et al. 2023,
https://arxiv.org/abs/2303.06865, traverses layers and batches in this order, there to generate.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

from kaggle_rag.models.answering.base import TOKENS, Asked, Batch
from kaggle_rag.models.answering.item import Item
from kaggle_rag.models.answering.packed import PackedForm
from kaggle_rag.models.description import config_of
from kaggle_rag.models.devices import dtype_of
from kaggle_rag.models.layouts import Writer
from kaggle_rag.models.loading import require_4bit
from kaggle_rag.models.memory import Reading, streamed
from kaggle_rag.models.streaming.hidden_states import DEVICE, RAM, HiddenStates, Room, hidden_states
from kaggle_rag.models.streaming.lora import Lora
from kaggle_rag.models.streaming.shards import Parts, Shards
from kaggle_rag.models.streaming.skeleton import Skeleton
from kaggle_rag.runtime.console import progress
from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.limits import Need, release

_Batches = Sequence[tuple[npt.NDArray[np.int64], Batch]]


class StreamedModel:
    """Scores of a packed form, as `AnswerForm.score` gives them with the model in memory.

    Opening it reads no weights, but checks that all of them are there; used in a ``with`` block.

    Parameters
    ----------
    folder : a checkpoint in safetensors, in whole numbers or in bitsandbytes' 4 bits.
    form : what is asked; it decides the head.
    device, precision : where it computes, and in what: a key of `kaggle_rag.models.devices.PRECISIONS`.
    adapter : folder of a LoRA adapter of PEFT, merged into each weight as it arrives.
    labels : of a binary head, 1 or 2.
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
        adapter: Path | None = None, labels: int = 1, room: Room | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.form, self.device, self.room = folder, form, device, room or Room()
        self.precision, self.dtype = precision, dtype_of(precision)
        config = _config(folder, form, labels)
        self._adapter = Lora(adapter) if adapter else None
        self._shards = Shards(folder)
        self._skeleton = Skeleton(form.auto, config, self.dtype, device)
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
        """Logits of each question's options, ``(n, k)``, in one pass over the layers; see `AnswerForm.score`.

        A pass that is interrupted while its hidden states are in files resumes behind the last layer that
        all questions went through.

        Raises
        ------
        LimitError, ArtifactError : see `kaggle_rag.models.streaming.hidden_states.hidden_states`.
        """
        collate = self.form.collator(writer.tokenizer, 8 if self.device.startswith("cuda") else None, True)
        asked = Asked(self.form, collate, writer, items, rotations)
        batches = [*asked.batches(batch_tokens or TOKENS[self.device.partition(":")[0]])]
        width = self._skeleton.model.config.get_text_config().hidden_size
        shapes = [torch.Size((*batch["input_ids"].shape, width)) for _, batch in batches]
        kept = hidden_states(shapes, self.room, self._key(batches), dtype=self.dtype, device=self.device)
        with self._parts, torch.inference_mode(), kept as states:
            self._run_layers(batches, states, quiet)
            with self._skeleton.filled(self._parts.take(self.layers + 1)):
                for number, (rows, batch) in enumerate(batches):
                    here = self._moved(batch)
                    hidden = states.get(number).flatten(0, 1)[here["reads"]]
                    outputs = self._skeleton.outputs(hidden).float()
                    asked.answer(rows, self.form.of_outputs(outputs, here))
        return asked.scores()

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
        place = self.room.place(states, self.device)
        most = batch_tokens or TOKENS[self.device.partition(":")[0]]
        found = streamed(
            self._sizes(), self.room.resident, config,
            Reading(self.device, self.precision, max(1, most // max_tokens), max_tokens,
                    answers=not self.form.has_head),
            states_ram=states if place == RAM else 0, states_gpu=states if place == DEVICE else 0,
        )  # fmt: skip
        return Need(
            f"stream: {self.folder.name}", found.ram,
            "lower batch_tokens, keep less resident, or name a folder for hidden states",
            gpu=found.gpu, weights=found.weights,
        )  # fmt: skip

    def _run_layers(self, batches: _Batches, states: HiddenStates, quiet: bool) -> None:
        """All batches through the embedding and every layer, from where an earlier pass stopped."""
        if states.finished == 0:
            with self._skeleton.filled(self._parts.take(0)):
                for number, (_, batch) in enumerate(batches):
                    states.put(number, self._skeleton.embedded(self._moved(batch)))
            states.finish()
        done = states.finished - 1
        with progress(self.layers, "stream", "layer", initial=done, disable=quiet) as bar:
            for layer in range(done, self.layers):
                with self._skeleton.filled(self._parts.take(layer + 1)):
                    for number, (_, batch) in enumerate(batches):
                        hidden = self._skeleton.through(layer, states.get(number), self._moved(batch))
                        states.put(number, hidden)
                states.finish()
                bar.update()

    def _moved(self, batch: Batch) -> Batch:
        return {key: value.to(self.device) for key, value in batch.items()}

    def _new_parts(self) -> Parts:
        return Parts(
            self._shards, self._skeleton.parts, self._shapes, self._skeleton.tied, adapter=self._adapter,
            dtype=self.dtype, device=self.device, resident=self.room.resident,
        )  # fmt: skip

    def _sizes(self) -> list[int]:
        """Bytes of each part in memory."""
        counts = {name: int(np.prod(shape)) for name, shape in self._shapes.items()}
        return [sum(counts[name] for name in part) * self.dtype.itemsize for part in self._skeleton.parts]

    def _key(self, batches: _Batches) -> dict[str, Any]:
        """All that determines hidden states; weights by their files, which are too large to be summed."""
        digest = hashlib.sha256()
        for _, batch in batches:
            for name in ("input_ids", "position_ids", "group", "branch"):
                digest.update(batch[name].numpy().tobytes())
        config = self._skeleton.model.config
        adapter = [*self._adapter.folder.glob("adapter_*")] if self._adapter else []
        return {
            "weights": _stamps(self._shards.files), "adapter": _stamps(adapter),
            "config": hashlib.sha256(config.to_json_string(use_diff=False).encode()).hexdigest(),
            "questions": digest.hexdigest(), "precision": self.precision,
            "device": self.device.partition(":")[0], "transformers": transformers.__version__,
        }  # fmt: skip


def _stamps(paths: Sequence[Path]) -> list[list[Any]]:
    """Name, size and time of change of each file."""
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(paths)]


def _config(folder: Path, form: PackedForm, labels: int) -> Any:
    """The checkpoint's config for the form's head; raise ``ConfigError`` for weights of unread kinds."""
    config = config_of(folder)
    if form.has_head:
        config.num_labels = labels
    if (given := getattr(config, "quantization_config", None)) is None:
        return config
    fields = given if isinstance(given, dict) else given.to_dict()
    if not fields.get("load_in_4bit"):
        raise ConfigError(
            f"weights quantized by {fields.get('quant_method')} are not read layer by layer", where=folder,
            expected="whole numbers, or the 4 bits of bitsandbytes", cure="load the whole model",
        )  # fmt: skip
    require_4bit()
    # Weights are whole when they are used: the skeleton is that of the model before it was quantized.
    del config.quantization_config
    return config
