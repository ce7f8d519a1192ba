"""Passages on disk: memory-mapped Arrow files, so that the text is never entirely in RAM."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.files import whole_file

SCHEMA = pa.schema(
    [
        ("article", pa.int32()),
        ("article_id", pa.dictionary(pa.int32(), pa.large_string())),
        ("title", pa.dictionary(pa.int32(), pa.large_string())),
        ("text", pa.large_string()),
    ]
)


class Passage(NamedTuple):
    """One passage and the article it comes from; ``article`` counts the articles of the corpus."""

    article: int
    article_id: str
    title: str
    text: str


def write_shard(path: Path, passages: Sequence[Passage], notes: dict[str, str]) -> None:
    """Write passages as one complete Arrow file; ``notes`` are stored in its schema's metadata."""
    columns = list(zip(*passages)) or [()] * len(SCHEMA)
    arrays = [
        pa.array(column, field.type.value_type).dictionary_encode()
        if pa.types.is_dictionary(field.type)
        else pa.array(column, field.type)
        for column, field in zip(columns, SCHEMA)
    ]
    batch = pa.record_batch(arrays, schema=SCHEMA).replace_schema_metadata(notes)
    with (
        whole_file(path) as aside,
        aside.open("wb") as file,
        pa.ipc.new_file(file, batch.schema) as writer,
    ):
        writer.write_batch(batch)


def read_shard(path: Path) -> pa.Table:
    """Memory-map one shard; its strings are read from disk when accessed."""
    try:
        with contextlib.closing(pa.memory_map(str(path))) as file:
            return pa.ipc.open_file(file).read_all()
    except (pa.ArrowInvalid, pa.ArrowException) as error:
        raise ArtifactError(
            f"not a complete Arrow file ({str(error).splitlines()[0]})",
            where=path,
            cure="copy the index again from where it was built, or rebuild it",
        ) from error


class Passages:
    """All passages of an index, by row number across its shards."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self._tables = [read_shard(path) for path in shards]
        self._starts = np.cumsum([0] + [table.num_rows for table in self._tables])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> Passage:
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        line = self._tables[shard].slice(row - self._starts[shard], 1)
        return Passage(*(column[0].as_py() for column in line.columns))

    def shard(self, number: int) -> pa.Table:
        """All columns of one shard, memory-mapped."""
        return self._tables[number]

    def take(self, rows: npt.NDArray[np.int64]) -> list[Passage]:
        """The passages at ``rows``, in that order."""
        return [self[int(row)] for row in rows]
