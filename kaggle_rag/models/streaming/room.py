"""How much memory and disk a streamed model may use, and where its hidden states go."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kaggle_rag.runtime.errors import LimitError, show_size

DEVICE, RAM, FILE = "device", "ram", "file"
# Of a disk, that much is left to what else is written: predictions and the submission.
_SPARE_DISK = 1_000_000_000


class Placed(NamedTuple):
    """Where hidden states go, how many of the batches fit there, and their bytes."""

    place: str
    batches: int
    size: int


@dataclasses.dataclass(frozen=True)
class Room:
    """What streaming may use besides a part of the model and the next, in bytes.

    Attributes
    ----------
    device : on a GPU, for hidden states; beyond, they go to RAM.
    ram : in RAM, for hidden states (default: as many as there are); beyond, they go to files in ``folder``.
    folder : for files of hidden states, twice their size; a pass that was killed is taken up there.
    disk : what these files may take (default: what is free).
    resident : of weights that stay on the compute device for the next pass; ``None``: what hidden states
        leave of ``device``, or of ``ram`` on a CPU.
    """

    device: int = 0
    ram: int | None = None
    folder: Path | None = None
    disk: int | None = None
    resident: int | None = 0

    def placed(self, sizes: Sequence[int], device: str) -> Placed:
        """Where batches of so many bytes of hidden states go: the nearest place with room for most of them.

        Raises
        ------
        LimitError : not even the first batch fits.
        """
        ends = np.cumsum(sizes)
        fitting = {place: int(np.searchsorted(ends, room, "right")) for place, room in self._rooms(device)}
        place = max(fitting, key=lambda each: fitting[each])
        if len(sizes) and not fitting[place]:
            raise LimitError(
                f"the hidden states of one batch take {show_size(sizes[0])}",
                expected=f"at most {show_size(self.ram or 0)} of RAM, or a folder on a disk with space",
                cure="allow more RAM (limits.ram) or disk (limits.disk), lower batch_tokens, or write to a "
                "disk with more space",
            )
        count = fitting[place]
        return Placed(place, count, int(ends[count - 1]) if count else 0)

    def kept(self, placed: Placed, device: str) -> int:
        """Bytes of weights that may stay beside these hidden states."""
        if self.resident is not None:
            return self.resident
        cuda = device.startswith("cuda")
        room = self.device if cuda else self.ram or 0
        return room - (placed.size if placed.place == (DEVICE if cuda else RAM) else 0)

    def folder_for(self, placed: Placed) -> Path | None:
        """Where these hidden states are filed or copied to; ``None`` if the disk has no room for copies."""
        fits = placed.place == FILE or placed.size <= self._on_disk()
        return self.folder if fits else None

    def _rooms(self, device: str) -> list[tuple[str, float]]:
        rooms = [(DEVICE, float(self.device))] if device.startswith("cuda") else []
        rooms.append((RAM, float("inf") if self.ram is None else float(self.ram)))
        return rooms if self.folder is None else [*rooms, (FILE, self._on_disk())]

    def _on_disk(self) -> float:
        """Bytes of hidden states that have room in two files."""
        free = 0 if self.folder is None else _free(self.folder)
        return (free if self.disk is None else min(free, self.disk)) / 2


def _free(folder: Path) -> int:
    """Bytes that may be written there, what a killed pass holds included."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    held = sum(path.stat().st_size for path in folder.glob("*.bin"))
    return max(0, shutil.disk_usage(there).free + held - _SPARE_DISK)
