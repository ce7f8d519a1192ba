"""Hidden states of all questions between two layers: on the GPU, in RAM, or in files that survive a kill."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from kaggle_rag.runtime.errors import LimitError, show_size
from kaggle_rag.runtime.files import require_space, write_json
from kaggle_rag.runtime.work_folder import WorkFolder, read_json

_FOLDER, _KEY, _FINISHED = "streamed-pass", "pass.json", "finished.json"
DEVICE, RAM, FILE = "device", "ram", "file"


@dataclasses.dataclass(frozen=True)
class Room:
    """What streaming may keep, in bytes.

    Attributes
    ----------
    device : of hidden states on a GPU; beyond, they go to RAM.
    ram : of hidden states in RAM (default: as many as there are); beyond, they go to files in ``folder``.
    folder : for hidden states that are too many for RAM; twice their size is written there, and a pass that
        was killed is taken up there.
    resident : of weights that stay on the device for the next pass.
    """

    device: int = 0
    ram: int | None = None
    folder: Path | None = None
    resident: int = 0

    def place(self, size: int, device: str) -> str:
        """Where so many bytes of hidden states go: `DEVICE`, `RAM` or `FILE`.

        Raises
        ------
        LimitError : they are too many for RAM, and no folder is named.
        """
        if device.startswith("cuda") and size <= self.device:
            return DEVICE
        if self.ram is None or size <= self.ram:
            return RAM
        if self.folder is None:
            raise LimitError(
                f"the hidden states of these questions take {show_size(size)}",
                expected=f"at most {show_size(self.ram)} of RAM, or a folder for them",
                cure="name a folder on a fast disk, allow more RAM, or ask fewer questions at once",
            )
        return FILE


class HiddenStates:
    """Hidden states of each batch, ``(rows, t, hidden)``, before and behind the part of the model at hand.

    Parameters
    ----------
    shapes : of each batch.
    tables : one, where a batch's new states replace the old ones, or two that take turns.
    device : where they are computed.

    Attributes
    ----------
    finished : how many parts they are through.
    """

    def __init__(self, shapes: Sequence[torch.Size], tables: Sequence[torch.Tensor], device: str) -> None:
        self._tables = [_split(table, shapes) for table in tables]
        self._device, self.finished = device, 0

    def get(self, batch: int) -> torch.Tensor:
        """Those that a part reads, on the device."""
        before = self._tables[self.finished % len(self._tables)][batch]
        return before.to(self._device, non_blocking=True)

    def put(self, batch: int, hidden: torch.Tensor) -> None:
        """Those behind the part."""
        self._tables[(self.finished + 1) % len(self._tables)][batch].copy_(hidden, non_blocking=True)

    def finish(self) -> None:
        """Every batch is through the part."""
        if self._device.startswith("cuda"):
            torch.cuda.synchronize(self._device)
        self.finished += 1


class _FiledStates(HiddenStates):
    """Two files: a layer that is interrupted has not touched what it reads."""

    def __init__(
        self, shapes: Sequence[torch.Size], files: Sequence[Path], dtype: torch.dtype, device: str
    ) -> None:
        count = sum(map(math.prod, shapes))
        tables = []
        for path in files:
            _reserve(path, count * dtype.itemsize)
            tables.append(torch.from_file(str(path), shared=True, size=count, dtype=dtype))
        super().__init__(shapes, tables, device)
        self._files, self._note = files, files[0].with_name(_FINISHED)
        self.finished = int((read_json(self._note) or {}).get("finished", 0))

    def finish(self) -> None:
        super().finish()
        # What the note says must be on disk before the note is, whatever happens to the machine.
        with self._files[self.finished % len(self._files)].open("rb+") as file:
            os.fsync(file.fileno())
        write_json(self._note, {"finished": self.finished})


class _PassFolder(WorkFolder):
    """A pass over all layers; only finished parts are worth keeping."""

    def worth_keeping(self) -> bool:
        return (self.folder / _FINISHED).exists()


@contextmanager
def hidden_states(
    shapes: Sequence[torch.Size], room: Room, key: Mapping[str, Any], *, dtype: torch.dtype, device: str
) -> Iterator[HiddenStates]:
    """Room for the hidden states of a pass; ``key`` is all that determines them.

    Files are taken up where a pass of the same key stopped, and removed when the block succeeds.

    Raises
    ------
    LimitError : they are too many for RAM, and no folder is named, or its disk is too full.
    ArtifactError : the folder holds an unfinished pass with another key, or one that is running.
    """
    count = sum(map(math.prod, shapes))
    place = room.place(count * dtype.itemsize, device)
    if place != FILE or room.folder is None:
        cuda = device.startswith("cuda")
        where = device if place == DEVICE else "cpu"
        table = torch.empty(count, dtype=dtype, device=where, pin_memory=cuda and place == RAM)
        yield HiddenStates(shapes, [table], device)
        return
    work = _PassFolder(
        room.folder / _FOLDER, key, "streamed pass", file=_KEY,
        cure="finish it with the settings it was begun with, remove the folder, or name another",
    )  # fmt: skip
    with work.claimed() as folder:
        files = [folder / "states-0.bin", folder / "states-1.bin"]
        yield _FiledStates(shapes, files, dtype, device)
        for path in (*files, folder / _FINISHED):
            path.unlink(missing_ok=True)


def _reserve(path: Path, size: int) -> None:
    """A file of so many bytes whose blocks are there: a full disk is an error now, not a signal later."""
    if path.exists() and path.stat().st_size == size:
        return
    require_space(path.parent, size)
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def _split(table: torch.Tensor, shapes: Sequence[torch.Size]) -> list[torch.Tensor]:
    parts = table.split([math.prod(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes)]
