"""Hidden states of all questions between two layers, and the files from which a killed pass is taken up."""

from __future__ import annotations

import math
import mmap
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kaggle_rag.models.streaming.room import DEVICE, FILE, RAM, Placed
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import FULL_DISK
from kaggle_rag.runtime.files import require_space, write_json
from kaggle_rag.runtime.work_folder import WorkFolder, read_json

_KEY, _FINISHED = "pass.json", "finished.json"
# A copy of what is in memory may take one part in so many of the time.
_SHARE = 20


class HiddenStates:
    """Hidden states of each batch, ``(rows, t, hidden)``, before and behind the part of the model at hand.

    Parameters
    ----------
    tables : of each batch; or two, one before and one behind the part.
    device : where they are computed, or the first of several.

    Attributes
    ----------
    finished : how many parts they are through.
    batches : how many of the batches, from the first, go on.
    """

    def __init__(self, tables: Sequence[Sequence[torch.Tensor]], device: str) -> None:
        self._tables, self._device, self.finished, self.batches = tables, device, 0, len(tables[0])

    def get(self, batch: int, device: str | None = None) -> torch.Tensor:
        """Those that a part reads, on the device, or another one."""
        return self._before(batch).to(device or self._device, non_blocking=True)

    def put(self, batch: int, hidden: torch.Tensor) -> None:
        """Those behind the part."""
        self._behind(batch).copy_(hidden, non_blocking=True)

    def finish(self) -> None:
        """Every batch that goes on is through the part, on whichever device."""
        self.finished += 1

    def _before(self, batch: int) -> torch.Tensor:
        return self._tables[self.finished % len(self._tables)][batch]

    def _behind(self, batch: int) -> torch.Tensor:
        return self._tables[(self.finished + 1) % len(self._tables)][batch]


def wait(device: torch.device | str) -> None:
    """Until a device has done what it was told."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


class _CopiedStates(HiddenStates):
    """In memory, with a copy in a file every now and then, from which a killed pass is taken up."""

    def __init__(self, tables: Sequence[Sequence[torch.Tensor]], device: str, folder: Path) -> None:
        super().__init__(tables, device)
        self._folder: Path | None = folder
        self._seconds, self._number = 0.0, 0
        if note := _Note.read(folder):
            self.finished, self._number = note.finished, note.file
            with _file(folder, note.file).open("rb") as file:
                for batch in range(self.batches):
                    self._before(batch).copy_(_read(file, self._before(batch)))
        self._copied = time.monotonic()

    def finish(self) -> None:
        super().finish()
        due = time.monotonic() - self._copied >= _SHARE * self._seconds
        # The embedding alone is not worth it.
        if due and self.finished > 1 and self._folder is not None:
            self._copy(self._folder)

    def _copy(self, folder: Path) -> None:
        began = time.monotonic()
        # The copy before stays whole until this one is.
        self._number = 1 - self._number
        try:
            with _file(folder, self._number).open("wb") as file:
                for batch in range(self.batches):
                    file.write(_bytes(self._before(batch).cpu()))
                _flush(file)
            _Note(self.finished, self.batches, self._number).write(folder)
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            say(f"note: the disk of {folder} is full: a pass that is killed will start over")
            self._folder = None
        self._copied = time.monotonic()
        self._seconds = self._copied - began


class _FiledStates(HiddenStates):
    """Two mapped files: a part that is interrupted has not touched what it reads."""

    def __init__(self, shapes: Sequence[torch.Size], dtype: torch.dtype, device: str, folder: Path) -> None:
        note = _Note.read(folder) or _Note(0, len(shapes), 0)
        self._folder, self._spans = folder, _spans(shapes, dtype)
        # The file of what is behind part p is number (p + turn) % 2.
        self._turn = (note.file - note.finished) % 2
        files = [_file(folder, self._number(part)) for part in (0, 1)]
        self._maps = [_mapped(path, _reserve(path, self._spans[-1].stop)) for path in files]
        tables = [
            [
                torch.frombuffer(found, dtype=dtype, count=math.prod(shape), offset=span.start).view(shape)
                for shape, span in zip(shapes, self._spans)
            ]
            for found in self._maps
        ]  # fmt: skip
        super().__init__(tables, device)
        self.finished = note.finished

    def put(self, batch: int, hidden: torch.Tensor) -> None:
        super().put(batch, hidden)
        wait(hidden.device)
        for found in self._maps:
            _forget(found, self._spans[batch])

    def finish(self) -> None:
        super().finish()
        # What the note says must be on disk before the note is, whatever happens to the machine.
        with _file(self._folder, self._number(self.finished)).open("rb+") as file:
            _flush(file)
        _Note(self.finished, self.batches, self._number(self.finished)).write(self._folder)

    def _number(self, part: int) -> int:
        return (part + self._turn) % 2


class _Note(NamedTuple):
    """How far a pass is: through so many parts, with so many batches, whose states are in that file."""

    finished: int
    batches: int
    file: int

    @classmethod
    def read(cls, folder: Path) -> _Note | None:
        stored = read_json(folder / _FINISHED)
        return None if stored is None else cls(**stored)

    def write(self, folder: Path) -> None:
        write_json(folder / _FINISHED, self._asdict())


class _PassFolder(WorkFolder):
    """A pass over all layers. One with other inputs is cleared away: no stage fails for what it left."""

    def worth_keeping(self) -> bool:
        return False


@contextmanager
def hidden_states(
    shapes: Sequence[torch.Size], placed: Placed, folder: Path | None, key: Mapping[str, Any], *,
    dtype: torch.dtype, device: str,
) -> Iterator[HiddenStates]:  # fmt: skip
    """The hidden states of a pass; ``key`` is all that determines them.

    With a folder, a pass of the same key that was killed is taken up, wherever its states were; what it
    holds is removed when the block succeeds.

    Parameters
    ----------
    shapes : of each batch.
    placed : where they go, and how many of the batches fit there.

    Raises
    ------
    LimitError : the disk is too full.
    ArtifactError : a process is working in the folder.
    """
    if folder is None:
        yield HiddenStates([_in_memory(shapes[: placed.batches], placed.place, dtype, device)], device)
        return
    work = _PassFolder(folder, key, "streamed pass", file=_KEY, cure="wait until it ends")
    with work.claimed():
        _drop_damaged(folder, shapes, dtype)
        note = _Note.read(folder)
        count = note.batches if note else placed.batches
        if placed.place == FILE or count > placed.batches:
            yield _FiledStates(shapes[:count], dtype, device, folder)
        else:
            tables = [_in_memory(shapes[:count], placed.place, dtype, device)]
            yield _CopiedStates(tables, device, folder)
        for path in (_file(folder, 0), _file(folder, 1), folder / _FINISHED):
            path.unlink(missing_ok=True)


def _in_memory(
    shapes: Sequence[torch.Size], place: str, dtype: torch.dtype, device: str
) -> list[torch.Tensor]:
    where = device if place == DEVICE else "cpu"
    pinned = device.startswith("cuda") and place == RAM
    return [torch.empty(shape, dtype=dtype, device=where, pin_memory=pinned) for shape in shapes]


def _drop_damaged(folder: Path, shapes: Sequence[torch.Size], dtype: torch.dtype) -> None:
    """Forget a pass whose file is gone or short."""
    if (note := _Note.read(folder)) is None:
        return
    path = _file(folder, note.file)
    wanted = sum(map(math.prod, shapes[: note.batches])) * dtype.itemsize
    if not path.is_file() or path.stat().st_size < wanted:
        (folder / _FINISHED).unlink()


def _file(folder: Path, number: int) -> Path:
    return folder / f"states-{number}.bin"


def _spans(shapes: Sequence[torch.Size], dtype: torch.dtype) -> list[slice]:
    """The bytes of each batch in a file."""
    spans, start = [], 0
    for shape in shapes:
        spans.append(slice(start, start + math.prod(shape) * dtype.itemsize))
        start = spans[-1].stop
    return spans


def _reserve(path: Path, size: int) -> int:
    """A file of so many bytes whose blocks are there: a full disk is an error now, not a signal later."""
    held = path.stat().st_size if path.exists() else 0
    if held >= size:
        return held
    require_space(path.parent, size - held)
    with path.open("ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return size


def _mapped(path: Path, size: int) -> mmap.mmap:
    with path.open("rb+") as file:
        return mmap.mmap(file.fileno(), size)


def _forget(found: mmap.mmap, span: slice) -> None:
    """Pages that were used leave this process's memory; what was written stays in the system's cache."""
    if hasattr(found, "madvise"):
        start = span.start - span.start % mmap.PAGESIZE
        found.madvise(mmap.MADV_DONTNEED, start, span.stop - start)


def _bytes(table: torch.Tensor) -> memoryview:
    """Its numbers as they are in memory; NumPy has no bfloat16."""
    return memoryview(table.contiguous().view(torch.uint8).flatten().numpy())


def _read(file: Any, like: torch.Tensor) -> torch.Tensor:
    table = torch.empty(like.shape, dtype=like.dtype)
    file.readinto(_bytes(table))
    return table


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
