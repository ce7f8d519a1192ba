"""Weights straight from safetensors, a part of the model at a time: the next is read while one computes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from kaggle_rag.models.checkpoints import shards, todays_name
from kaggle_rag.models.memory import header, is_linear
from kaggle_rag.models.streaming.lora import Lora
from kaggle_rag.models.streaming.quantized import SCALES, STATES, Quantized, Stored, as_stored, in_nf4
from kaggle_rag.runtime.errors import CheckpointError

_COPY_AGAIN = "copy the folder again from where it was made"

Weights = dict[str, torch.Tensor]
# The weights of a part as they stay on a device.
_Held = dict[str, torch.Tensor | Quantized]


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
        self.folder, self.files, self.bytes_read = folder, shards(folder), 0
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
            if self._in_4_bits(place.name):
                # Two weights of 4 bits share a byte; their shape is known when they are read.
                found, shape = (math.prod(found),), (-(-math.prod(shape) // 2),)
            if found != shape:
                raise CheckpointError(
                    f"{name} has the shape {found}", where=place.path, expected=f"{shape}, by config.json",
                    cure="use the config.json that the model was published with",
                )  # fmt: skip

    def read(self, name: str) -> Stored:
        """A tensor under ``""`` in memory of its own, and what belongs to it if it is in few bits.

        Raises
        ------
        CheckpointError : the file is gone or damaged by now.
        """
        place = self._place(name)
        names = {"": place.name, **self._belongings(place.name)}
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

    def _in_4_bits(self, name: str) -> bool:
        return any(f"{name}.{state}" in self._places for state in STATES)

    def _belongings(self, name: str) -> dict[str, str]:
        prefix = f"{name}."
        if self._in_4_bits(name):
            return {known[len(prefix) :]: known for known in self._places if known.startswith(prefix)}
        scales = f"{name.rpartition('.')[0]}.{SCALES}"
        return {SCALES: scales} if name.endswith(".weight") and scales in self._places else {}

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


class _Read(NamedTuple):
    """A part as it was read, and the seconds that it took."""

    weights: dict[str, Stored]
    seconds: float


class Named(NamedTuple):
    """The weights of a model by name.

    Attributes
    ----------
    parts : those of each part: the embedding, each layer, the head.
    shapes : of every weight.
    tied : weights that are read under another name.
    """

    parts: Sequence[Sequence[str]]
    shapes: Mapping[str, tuple[int, ...]]
    tied: Mapping[str, str]


class Arrival(NamedTuple):
    """What becomes of a weight as it arrives on a device.

    Attributes
    ----------
    dtype : what it is computed in.
    adapter : is merged into it.
    nf4 : linear layers are quantized to 4 bits; what stays resident takes a quarter then.
    """

    dtype: torch.dtype
    adapter: Lora | None = None
    nf4: bool = False


class Parts:
    """The parts of a model in turn on the compute devices; used in a ``with`` block.

    A background thread reads the part after the one that was taken, into pinned memory if it goes to a GPU:
    in memory are the part at hand and the next one. Several devices are given what was read once.

    Attributes
    ----------
    read_seconds, move_seconds : of the part that was taken last: reading it, beside the computing of the one
        before, and what had to be done with it afterwards.
    """

    def __init__(self, shards: Shards, named: Named, arrival: Arrival, devices: Sequence[str]) -> None:
        self._shards, self._named, self._arrival, self._devices = shards, named, arrival, devices
        self._pinned = devices[0].startswith("cuda")
        self._room = 0
        self._kept: dict[int, list[_Held]] = {}
        self._ahead: dict[int, Future[_Read]] = {}
        self._thread: ThreadPoolExecutor | None = None
        self.read_seconds = self.move_seconds = 0.0

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

    def keep(self, resident: int) -> None:
        """Let so many bytes of parts stay on each device, first come first kept, and read them no more."""
        while self._kept and self._kept_bytes() > resident:
            del self._kept[max(self._kept)]
        self._room = resident - self._kept_bytes()

    def _kept_bytes(self) -> int:
        return sum(_size(each[0]) for each in self._kept.values())

    def take(self, number: int, devices: int | None = None) -> list[Weights]:
        """The weights of a part on each device, or the first so many; the caller drops those before first.

        Raises
        ------
        CheckpointError : a file is gone or damaged by now.
        """
        if self._thread is None:
            raise RuntimeError("parts are taken outside of their with block")
        self._look_ahead(number)
        read = self._ahead.pop(number).result() if number in self._ahead else _Read({}, 0.0)
        self._look_ahead(number + 1)
        began = time.perf_counter()
        everywhere = self._kept.get(number)
        if everywhere is None:
            everywhere = self._everywhere(read.weights, self._devices[:devices])
            if _size(everywhere[0]) <= self._room:
                self._room -= _size(everywhere[0])
                self._kept[number] = everywhere
        found = [
            {
                name: self._merged(name, weight.whole()) if isinstance(weight, Quantized) else weight
                for name, weight in held.items()
            } for held in everywhere
        ]  # fmt: skip
        self.read_seconds, self.move_seconds = read.seconds, time.perf_counter() - began
        return found

    def _everywhere(self, read: dict[str, Stored], devices: Sequence[str]) -> list[_Held]:
        """A part on several devices; what was read is dropped weight by weight."""
        held: list[_Held] = [{} for _ in devices]
        for name in [*read]:
            stored = read.pop(name)
            for own, device in zip(held, devices):
                own[name] = self._arrived(name, stored, device)
        return held

    def _look_ahead(self, number: int) -> None:
        known = number in self._kept or number in self._ahead or number >= len(self._named.parts)
        if not known and self._thread is not None:
            self._ahead[number] = self._thread.submit(self._read, number)

    def _read(self, number: int) -> _Read:
        began = time.perf_counter()
        found = {name: dict(self._stored(name)) for name in self._named.parts[number]}
        return _Read(found, time.perf_counter() - began)

    def _stored(self, name: str) -> Iterator[tuple[str, torch.Tensor]]:
        adapter = self._arrival.adapter
        saved = adapter.replaced.get(name) if adapter else None
        stored = {"": saved} if saved is not None else self._shards.read(self._named.tied.get(name, name))
        for part, tensor in stored.items():
            # What belongs to a weight in few bits keeps its types.
            if len(stored) == 1 and tensor.is_floating_point():
                tensor = tensor.to(self._arrival.dtype)
            yield part, tensor.pin_memory() if self._pinned else tensor

    def _arrived(self, name: str, stored: Stored, device: str) -> torch.Tensor | Quantized:
        """A weight on a device as it may stay there: as the model uses it, or in few bits."""
        moved = {part: tensor.to(device, non_blocking=True) for part, tensor in stored.items()}
        if len(moved) > 1:
            return as_stored(moved)
        adapter = self._arrival.adapter
        own = adapter is not None and name in adapter.replaced
        if self._arrival.nf4 and not own and is_linear(name, self._named.shapes[name]):
            return in_nf4(moved[""])
        return self._merged(name, moved[""])

    def _merged(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """A weight out of its bits, with what the adapter adds to it."""
        shape, adapter = self._named.shapes[name], self._arrival.adapter
        if tuple(weight.shape) != shape:
            raise CheckpointError(
                f"{name} has the shape {tuple(weight.shape)}", where=self._shards.folder,
                expected=f"{shape}, by config.json", cure=_COPY_AGAIN,
            )  # fmt: skip
        weight = weight.to(self._arrival.dtype)
        return adapter.merged(name, weight) if adapter else weight


def _size(held: _Held) -> int:
    return sum(weight.nbytes for weight in held.values())
