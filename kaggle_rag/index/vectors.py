"""Vectors on disk: one memory-mapped .npy of rows, in the requested precision.

A row is read back as float32. ``fp16`` keeps the squared distances of unit vectors within 1e-3 and
``int8`` within about 1e-2, which is far below what separates two neighbours; both are meant for
refining the candidates of a compressed index.
"""

from __future__ import annotations

import dataclasses
import io
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_rag.runtime.errors import ArtifactError

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

PRECISIONS: dict[str, npt.DTypeLike] = {"fp32": np.float32, "fp16": np.float16, "int8": np.int8}
# float32 rows handled at once when a whole store is read.
_BLOCK_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class VectorLayout:
    """What a row looks like on disk.

    ``step`` is the distance between two int8 levels, one number for all dimensions of unit vectors.
    """

    rows: int
    dim: int
    precision: str = "fp32"
    step: float = 0.0

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(PRECISIONS[self.precision])

    @property
    def row_bytes(self) -> int:
        return self.dim * self.dtype.itemsize

    def pack(self, vectors: Vectors) -> npt.NDArray[Any]:
        """float32 rows in their form on disk."""
        if self.precision == "int8":
            return np.asarray(np.clip(np.rint(vectors / self.step), -127, 127), dtype=np.int8)
        return np.asarray(vectors, dtype=self.dtype)

    def unpack(self, stored: npt.NDArray[Any]) -> Vectors:
        """Rows in their form on disk as float32."""
        vectors = stored.astype(np.float32)
        return vectors * np.float32(self.step) if self.precision == "int8" else vectors


def calibrated_step(sample: Vectors) -> float:
    """The int8 step with the least squared error on a sample of vectors.

    Clipping a few large components costs less than coarser levels for all the others (the argument
    of Banner et al. 2019, https://arxiv.org/abs/1810.05723), so the widest component is not a guide.
    """
    widest = float(np.abs(sample).max()) or 1.0
    steps = [widest * share / 127 for share in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)]

    def error(step: float) -> float:
        layout = VectorLayout(len(sample), sample.shape[1], "int8", step)
        return float(((layout.unpack(layout.pack(sample)) - sample) ** 2).sum())

    return min(steps, key=error)


class VectorStore:
    """The vectors of an index, by row; only the pages being read are in RAM."""

    def __init__(self, path: Path, layout: VectorLayout) -> None:
        self.path, self.layout = path, layout
        try:
            self._map = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError) as error:
            raise ArtifactError(
                f"not a complete vector file ({error})", where=path, cure="copy or rebuild the index"
            ) from error
        if self._map.shape != (layout.rows, layout.dim) or self._map.dtype != layout.dtype:
            raise ArtifactError(
                f"the file holds {self._map.shape} {self._map.dtype}",
                where=path,
                expected=f"{(layout.rows, layout.dim)} {layout.dtype}",
                cure="parts of two builds were mixed: rebuild the index",
            )

    def __len__(self) -> int:
        return self.layout.rows

    def take(self, rows: Rows) -> Vectors:
        """The vectors at ``rows``, ``(len(rows), dim)`` float32, in that order.

        They are read in disk order, each once, however often and in whatever order they are requested.
        """
        unique, back = np.unique(rows, return_inverse=True)
        return self.layout.unpack(self._map[unique])[back]

    def slice(self, start: int, stop: int) -> Vectors:
        """Rows ``start`` to ``stop`` as float32."""
        return self.layout.unpack(self._map[start:stop])

    def blocks(self, rows: int | None = None) -> Iterator[tuple[int, Vectors]]:
        """The whole store in order: the first row of a block, and its vectors."""
        rows = rows or max(1, _BLOCK_BYTES // (4 * self.layout.dim))
        for start in range(0, len(self), rows):
            yield start, self.slice(start, min(start + rows, len(self)))

    def forget(self) -> None:
        """Let the system drop the pages read so far, which count as this process's memory until then."""
        mapped = getattr(self._map, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


class VectorWriter:
    """Writes a store slice by slice, in any order, and again after a kill.

    The number of rows is known before the first vector, so the file has its full length from the start;
    `write` uses ordinary writes because a full disk would kill a process that writes into mapped
    memory.

    ``shared``: several machines write into a file that another process created, and write only
    rows. On NFS a client may send back the whole page around a write, and so undo what another
    one wrote next to it, unless the file is open write-only and synchronously
    (nfs_can_extend_write in Linux's fs/nfs/write.c).
    """

    def __init__(self, path: Path, layout: VectorLayout, *, shared: bool = False) -> None:
        self.path, self.layout = path, layout
        head = io.BytesIO()
        header = {"descr": np.lib.format.dtype_to_descr(layout.dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(head, {**header, "shape": (layout.rows, layout.dim)})
        self._data = head.tell()
        if not shared:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.fdopen(
            os.open(path, os.O_WRONLY | (os.O_DSYNC if shared else os.O_CREAT), 0o644), "wb"
        )
        if not shared:
            self._file.write(head.getvalue())
            self._file.truncate(self._data + layout.rows * layout.row_bytes)

    def write(self, start: int, vectors: Vectors) -> None:
        """Write ``vectors`` at row ``start``; they are on disk when this returns."""
        self._file.seek(self._data + start * self.layout.row_bytes)
        self._file.write(np.ascontiguousarray(self.layout.pack(vectors)).data)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
