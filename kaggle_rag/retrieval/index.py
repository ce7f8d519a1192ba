"""The index folder: passages, vectors and FAISS, opened memory-mapped and checked.

::

    index/
      manifest.json          what it was made of, and a checksum a file
      passages/00000.arrow   article, article_id, title, text; about 16,384 rows a shard
      vectors/00000.npy      (rows, dim) float32, the same rows
      index.faiss            IndexFlatL2 over all rows
"""

from __future__ import annotations

import functools
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from kaggle_rag.artifacts import Manifest, verify
from kaggle_rag.errors import ArtifactError
from kaggle_rag.retrieval.encoder import Vectors
from kaggle_rag.retrieval.passages import Passages

FAISS_FILE = "index.faiss"
# A checksum runs at over 1 GB/s: below this size a bar would only flicker.
_BAR_FROM = 4 << 30
# Queries in one FAISS call: bounds its distance buffers and gives the bar something to count.
_QUERIES = 1024


def shard_name(folder: str, number: int) -> str:
    """``passages/00000.arrow`` or ``vectors/00000.npy``: a shard's path inside the index folder."""
    return f"{folder}/{number:05d}.{ {'passages': 'arrow', 'vectors': 'npy'}[folder] }"


class Index:
    """An index opened for reading; nothing of it lies in RAM until it is asked for."""

    def __init__(self, folder: str | Path, *, verify_content: bool = True) -> None:
        """Open and check an index.

        Raises
        ------
        ArtifactError : no or another manifest; a file missing, cut or changed; rows that disagree.
        """
        self.folder = Path(folder)
        self.manifest = Manifest.read(folder)
        self._verify(verify_content)
        shards = range(len(self.manifest.shard_rows))
        self.passages = Passages([self.folder / shard_name("passages", i) for i in shards])
        self._vectors = [np.load(self.folder / shard_name("vectors", i), mmap_mode="r") for i in shards]
        self._starts = np.cumsum([0, *self.manifest.shard_rows])
        self._agree()

    def __len__(self) -> int:
        return self.manifest.passages

    @functools.cached_property
    def faiss(self) -> faiss.Index:
        """The FAISS index, memory-mapped."""
        try:
            return faiss.read_index(str(self.folder / FAISS_FILE), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise ArtifactError(
                "FAISS cannot read this index", where=self.folder / FAISS_FILE, cure="build it again"
            ) from error

    def search(
        self, queries: Vectors, k: int, *, progress: bool = False
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Squared L2 distances and row numbers of the ``k`` nearest passages, each ``(n, k)``.

        ``k`` is cut to the number of passages.
        """
        k = min(k, len(self))
        distances = np.empty((len(queries), k), dtype=np.float32)
        rows = np.empty((len(queries), k), dtype=np.int64)
        with tqdm(total=len(queries), desc="search", unit="query", disable=not progress) as bar:
            for start in range(0, len(queries), _QUERIES):
                part = slice(start, start + _QUERIES)
                distances[part], rows[part] = self.faiss.search(queries[part], k)
                bar.update(len(queries[part]))
        return distances, rows

    def vectors(self, rows: npt.NDArray[np.int64]) -> Vectors:
        """The vectors at ``rows``, ``(len(rows), dim)`` float32, read from the mapped shards."""
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        out = np.empty((len(rows), self.manifest.encoder.dim), dtype=np.float32)
        for shard in np.unique(shards):
            mine = shards == shard
            out[mine] = self._vectors[shard][rows[mine] - self._starts[shard]]
        return out

    def _verify(self, content: bool) -> None:
        total = sum(seal["bytes"] for seal in self.manifest.files.values())
        quiet = not content or total < _BAR_FROM
        with tqdm(total=total, desc="checksums", unit="B", unit_scale=True, disable=quiet) as bar:
            verify(self.folder, self.manifest.files, content=content, on_bytes=bar.update)

    def _agree(self) -> None:
        """Text, vectors and index must hold the same number of rows, shard by shard."""
        counts = {
            "manifest": self.manifest.passages,
            "text": len(self.passages),
            "vectors": sum(len(shard) for shard in self._vectors),
            "index": self.faiss.ntotal,
            "shards": int(self._starts[-1]),
        }
        dims = {shard.shape[1] for shard in self._vectors} | {self.faiss.d}
        if len(set(counts.values())) > 1 or dims != {self.manifest.encoder.dim}:
            raise ArtifactError(
                "the parts of the index disagree: "
                + ", ".join(f"{name} {count:,} rows" for name, count in counts.items())
                + f"; dimensions {sorted(dims)}",
                where=self.folder,
                cure="parts of two builds were mixed: build the index again",
            )
