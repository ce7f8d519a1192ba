"""Files, plain or compressed by gzip or bzip2: one stream of bytes, or one clear error."""

from __future__ import annotations

import bz2
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from kaggle_rag.runtime.errors import InputError

COMPRESSED = (".gz", ".bz2")
_BLOCK = 1 << 18


def inner_name(path: Path) -> str:
    """The file's name in lower case, without a compression ending."""
    name = path.name.lower()
    return name.rpartition(".")[0] if name.endswith(COMPRESSED) else name


@contextmanager
def opened(path: Path) -> Iterator[tuple[io.BufferedReader, Callable[[], float]]]:
    """Open a file, decompressing it as it is read; yield the stream, and the share of the file read so far.

    Raises
    ------
    InputError : (while reading) the compressed data is truncated or damaged.
    """
    size = path.stat().st_size
    if not size and path.suffix.lower() in COMPRESSED:
        raise InputError("the file is empty", where=path, cure="fetch the file again")
    with path.open("rb") as raw:
        stream: io.BufferedReader = io.BufferedReader(_decompressed(path, raw), _BLOCK)
        try:
            yield stream, lambda: raw.tell() / max(size, 1)
        except (EOFError, zlib.error, OSError) as error:
            # Disk errors have an errno; those of the formats have none.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            what = "is truncated" if isinstance(error, EOFError) else f"is damaged ({error})"
            raise InputError(
                f"the compressed file {what}",
                where=f"{path}, near byte {raw.tell():,} of {size:,}",
                cure="the download or copy may be truncated: fetch the file again and compare its checksum",
            ) from error


def _decompressed(path: Path, raw: BinaryIO) -> Any:
    ending = path.suffix.lower()
    return gzip.GzipFile(fileobj=raw) if ending == ".gz" else _Bz2(raw) if ending == ".bz2" else raw


class _Bz2(io.RawIOBase):
    """Concatenated bzip2 streams, as in a multistream dump.

    ``bz2.open`` mistakes damage at the start of a stream for garbage after the last one, and silently
    ends there; this raises.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._stream, self._input = raw, bz2.BZ2Decompressor(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while True:
            if self._stream.eof:
                self._input = self._stream.unused_data or self._raw.read(_BLOCK)
                if not self._input:
                    return 0
                self._stream = bz2.BZ2Decompressor()
            elif self._stream.needs_input and not self._input:
                self._input = self._raw.read(_BLOCK)
                if not self._input:
                    raise EOFError
            data = self._stream.decompress(self._input, len(buffer))
            self._input = b""
            if data:
                buffer[: len(data)] = data
                return len(data)
