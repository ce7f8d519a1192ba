"""Weights straight from safetensors, a part of the model at a time: the next is read while one computes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from kaggle_rag.models.checkpoints import todays_name, weights
from kaggle_rag.models.memory import header
from kaggle_rag.models.streaming.lora import Lora
from kaggle_rag.runtime.errors import CheckpointError

INDEX = "model.safetensors.index.json"
# How bitsandbytes names what belongs to a weight in 4 bits: NAME.absmax, NAME.quant_map and so on.
_QUANTIZED = "quant_state.bitsandbytes__"
_COPY_AGAIN = "copy the folder again from where it was made"

Stored = dict[str, torch.Tensor]
Weights = dict[str, torch.Tensor]


class _Place(NamedTuple):
    """Where a tensor is, and what its file says about it."""

    path: Path
    name: str
    shape: tuple[int, ...]


class Shards:
    """The tensors of a checkpoint by name, whichever of its files they are in; opening reads headers only.

    Attributes
    ----------
    folder : of the checkpoint.
    files : its safetensors.
    bytes_read : of all tensors read so far.

    Raises
    ------
    CheckpointError : a file that the index names is missing, or a file is truncated.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.files, self.bytes_read = folder, _files(folder), 0
        self._places = {
            todays_name(name): _Place(path, name, tuple(shape))
            for path in self.files
            for name, shape, _ in header(path)
        }

    def require(self, wanted: Mapping[str, tuple[int, ...]]) -> None:
        """Raise ``CheckpointError`` unless every named tensor is there in its shape."""
        for name, shape in wanted.items():
            place = self._place(name)
            found = place.shape
            if self._parts(place.name):
                # Two weights of 4 bits share a byte; their shape is known when they are read.
                found, shape = (math.prod(found),), (-(-math.prod(shape) // 2),)
            if found != shape:
                raise CheckpointError(
                    f"{name} has the shape {found}", where=place.path, expected=f"{shape}, by config.json",
                    cure="use the config.json that the model was published with",
                )  # fmt: skip

    def read(self, name: str) -> Stored:
        """A tensor under ``""`` in memory of its own, and what belongs to it if it is in 4 bits.

        Raises
        ------
        CheckpointError : the file is gone or damaged by now.
        """
        place = self._place(name)
        names = {"": place.name, **self._parts(place.name)}
        return {part: self._read(self._places[todays_name(whole)]) for part, whole in names.items()}

    def _place(self, name: str) -> _Place:
        # A checkpoint of the backbone alone lacks the prefix that a model with a head puts before it.
        for spelling in (name, name.partition(".")[2]):
            if (place := self._places.get(spelling)) is not None:
                return place
        raise CheckpointError(
            f"the checkpoint has no tensor {name}",
            where=self.folder,
            expected=f"it in one of {len(self.files)} safetensors",
            cure="a head that is new must be trained first: python -m training --help"
            if name.startswith("score.")
            else _COPY_AGAIN,
        )

    def _parts(self, name: str) -> dict[str, str]:
        prefix = f"{name}."
        quantized = (f"{prefix}{_QUANTIZED}{kind}" for kind in ("nf4", "fp4"))
        if not any(state in self._places for state in quantized):
            return {}
        return {known[len(prefix) :]: known for known in self._places if known.startswith(prefix)}

    def _read(self, place: _Place) -> torch.Tensor:
        """Its numbers, copied: a tensor of safetensors is a view into a mapped file, read when it is used.

        The file is mapped for one tensor only, so that its pages do not add up in memory.
        """
        try:
            with safe_open(place.path, framework="pt") as file:
                tensor: torch.Tensor = file.get_tensor(place.name).clone()
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{place.name} cannot be read ({str(error).splitlines()[0]})", where=place.path,
                cure=_COPY_AGAIN,
            ) from error  # fmt: skip
        self.bytes_read += tensor.nbytes
        return tensor


def _files(folder: Path) -> list[Path]:
    """The safetensors of a checkpoint, complete by its index if it has one."""
    index = folder / INDEX
    if not index.is_file():
        found = weights(folder)
        if not found:
            raise CheckpointError("no *.safetensors here", where=folder, expected=f"{INDEX} with its files")
        return found
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(
            "this is no index of safetensors", where=index, expected='a table "weight_map"', cure=_COPY_AGAIN
        ) from error
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(
                "a file of the checkpoint is missing", where=folder / name,
                expected=f"{len(names)} files, named by {INDEX}", cure=_COPY_AGAIN,
            )  # fmt: skip
    return [folder / name for name in names]


class Parts:
    """The parts of a model in turn on the compute device; used in a ``with`` block.

    A background thread reads the part after the one that was taken, into pinned memory if it goes to a GPU:
    in memory are the part at hand and the next one.

    Parameters
    ----------
    parts : the names of each part's weights; ``shapes`` those of each weight.
    tied : names of weights that are read under another name.
    resident : bytes of parts that stay on the device, first come first kept, and are not read again.
    """

    def __init__(
        self, shards: Shards, parts: Sequence[Sequence[str]], shapes: Mapping[str, tuple[int, ...]],
        tied: Mapping[str, str], *, adapter: Lora | None, dtype: torch.dtype, device: str, resident: int,
    ) -> None:  # fmt: skip
        self._shards, self._parts, self._tied, self._adapter = shards, parts, tied, adapter
        self._shapes, self._dtype, self._device, self._room = shapes, dtype, device, resident
        self._kept: dict[int, Weights] = {}
        self._ahead: dict[int, Future[dict[str, Stored]]] = {}
        self._thread: ThreadPoolExecutor | None = None

    def __enter__(self) -> Parts:
        self._thread = ThreadPoolExecutor(1, "shards")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        self._thread = None
        self._ahead.clear()

    def take(self, number: int) -> Weights:
        """The weights of a part, on the device; the caller drops those of the part before it first.

        Raises
        ------
        CheckpointError : a file is gone or damaged by now.
        """
        if self._thread is None:
            raise RuntimeError("parts are taken outside of their with block")
        self._look_ahead(number)
        read = self._ahead.pop(number).result() if number in self._ahead else {}
        self._look_ahead(number + 1)
        if number in self._kept:
            return self._kept[number]
        found = {name: self._whole(name, read.pop(name)) for name in self._parts[number]}
        size = sum(weight.nbytes for weight in found.values())
        if size <= self._room:
            self._room -= size
            self._kept[number] = found
        return found

    def _look_ahead(self, number: int) -> None:
        known = number in self._kept or number in self._ahead or number >= len(self._parts)
        if not known and self._thread is not None:
            self._ahead[number] = self._thread.submit(self._read, number)

    def _read(self, number: int) -> dict[str, Stored]:
        return {name: dict(self._stored(name)) for name in self._parts[number]}

    def _stored(self, name: str) -> Iterator[tuple[str, torch.Tensor]]:
        saved = self._adapter.replaced.get(name) if self._adapter else None
        stored = {"": saved} if saved is not None else self._shards.read(self._tied.get(name, name))
        for part, tensor in stored.items():
            # What belongs to a weight in 4 bits keeps its types.
            if len(stored) == 1 and tensor.is_floating_point():
                tensor = tensor.to(self._dtype)
            yield part, tensor.pin_memory() if self._device.startswith("cuda") else tensor

    def _whole(self, name: str, stored: Stored) -> torch.Tensor:
        """A weight as the model uses it: out of its 4 bits, with what the adapter adds to it."""
        moved = {part: tensor.to(self._device, non_blocking=True) for part, tensor in stored.items()}
        weight = dequantized(moved).to(self._dtype) if len(moved) > 1 else moved[""]
        if tuple(weight.shape) != self._shapes[name]:
            raise CheckpointError(
                f"{name} has the shape {tuple(weight.shape)}", where=self._shards.folder,
                expected=f"{self._shapes[name]}, by config.json", cure=_COPY_AGAIN,
            )  # fmt: skip
        return self._adapter.merged(name, weight) if self._adapter else weight


def dequantized(stored: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """A weight of bitsandbytes' 4 bits, in the number type that it was quantized from."""
    from bitsandbytes import functional

    state: dict[str, Any] = {part: tensor for part, tensor in stored.items() if part}
    made = functional.QuantState.from_dict(state, stored[""].device)
    whole: torch.Tensor = functional.dequantize_4bit(stored[""], made)
    return whole
