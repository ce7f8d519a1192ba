"""What an index folder holds, and how it was built: its manifest."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from kaggle_rag.runtime.errors import ArtifactError, InputError
from kaggle_rag.runtime.files import fields_sha256, write_json

FORMAT = 2
MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class EncoderCard:
    """The encoder that made a set of vectors; ``sha256`` is that of its safetensors.

    ``precision`` is what the vectors of the index were computed in; queries are always float32.
    """

    name: str
    sha256: str
    dim: int
    max_tokens: int
    query_prompt: str
    passage_prompt: str
    precision: str = "fp32"


@dataclasses.dataclass(frozen=True)
class DenseCard:
    """One dense retriever: its encoder, the kind of its FAISS index, and how that is searched.

    Parameters
    ----------
    kind, factory : see `kaggle_rag.index.kinds.kind_of`, and the FAISS description made from it.
    vectors, step : precision of the stored vectors, and the int8 step (0 for the others).
    trained_on : how many vectors lists and codes were learned from; 0 if nothing is learned.
    nprobe, depth : lists visited per query, and candidates rescored with the stored vectors.
    recall : recall@10 against exact search that they reached on ``queries`` held-out queries.
    """

    encoder: EncoderCard
    kind: str
    factory: str
    vectors: str
    step: float = 0.0
    trained_on: int = 0
    nprobe: int = 0
    depth: int = 0
    recall: float = 1.0
    queries: int = 0


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The seal of an index: what it was built from, what it holds, and the checksum of every file.

    ``dense`` maps a retriever's name to its card, the default one first; ``lexical_rows`` are the
    passages in each BM25 part; ``asked`` holds the settings the user requested. ``files`` maps a path
    inside the folder to ``{"bytes": int, "sha256": str}``. Nothing in it depends on time, place or
    machine, so that two builds of one corpus are equal byte for byte.
    """

    kind: str
    format: int
    corpus: dict[str, Any]
    unit: str
    title_in_text: bool
    language: str
    asked: dict[str, Any]
    articles: int
    passages: int
    skipped: dict[str, int]
    shard_rows: list[int]
    dense: dict[str, DenseCard]
    lexical_rows: list[int]
    files: dict[str, dict[str, Any]]
    left_out: dict[str, int] = dataclasses.field(default_factory=dict)
    """Counts of the templates, sections and marks of the articles that are in no passage."""

    KIND = "kaggle-rag index"

    @property
    def default(self) -> str:
        """Name of the dense retriever that is used when no other is named."""
        return next(iter(self.dense))

    @property
    def encoder(self) -> EncoderCard:
        """The encoder of the default retriever."""
        return self.dense[self.default].encoder

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` with its own checksum."""
        fields = dataclasses.asdict(self)
        write_json(folder / MANIFEST, {**fields, "sha256": fields_sha256(fields)})

    @classmethod
    def read(cls, folder: str | Path) -> Manifest:
        """Read and check ``manifest.json``; raise ``ArtifactError`` if it is not an index's."""
        folder = Path(folder)
        if folder.is_file():
            raise InputError("this is a file, not an index folder", where=folder)
        if not folder.is_dir():
            raise InputError(
                "no such index folder",
                where=folder,
                cure="build one: python -m wiki_index build CORPUS " + str(folder),
            )
        path = folder / MANIFEST
        if not path.exists():
            raise ArtifactError(
                "this folder has no manifest.json, so it is not a finished index",
                where=folder,
                cure="pass the folder that `python -m wiki_index build` wrote, or rebuild it",
            )
        try:
            fields = dict(json.loads(path.read_text(encoding="utf-8")))
            own = fields.pop("sha256", None)
            if (fields.get("kind"), fields.get("format")) != (cls.KIND, FORMAT):
                raise ValueError(f"kind {fields.get('kind')!r}, format {fields.get('format')!r}")
            if own != fields_sha256(fields):
                raise ValueError("its own checksum differs: it was changed after it was written")
            cards = {
                name: DenseCard(**{**card, "encoder": EncoderCard(**card["encoder"])})
                for name, card in fields["dense"].items()
            }
            return cls(**{**fields, "dense": cards})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"not a manifest that this version can read ({error})",
                where=path,
                expected=f"kind {cls.KIND!r}, format {FORMAT}",
                cure="rebuild the index with this version of the kit",
            ) from error


