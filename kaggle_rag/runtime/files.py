"""What lies on disk between two stages: written whole, sealed by checksums, checked on opening."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from kaggle_rag.runtime.errors import ArtifactError, InputError, LimitError, show_size

FORMAT = 2
MANIFEST = "manifest.json"
_BLOCK = 1 << 20


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it over ``path`` when the block ends well.

    A reader sees the old file or the new one, never half of one (POSIX ``rename`` is atomic); when
    the block raises, or the process is killed, ``path`` is as it was.
    """
    # Behind a link the file itself is replaced, not the link.
    path = Path(path).resolve()
    if path.exists() and not path.is_file():
        raise InputError(
            "this is no file that could be written whole", where=path, cure="choose another path"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove what writers of this file left aside that were killed."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        pid = part.name.removesuffix(".part").rpartition(".")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            part.unlink(missing_ok=True)


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as readable JSON, whole."""
    with whole_file(path) as aside:
        aside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256(path: str | Path, on_bytes: Callable[[int], object] | None = None) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits; ``on_bytes`` hears of each block read."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if on_bytes:
                on_bytes(len(block))
    return digest.hexdigest()


def require_space(folder: Path, needed: int) -> None:
    """Refuse before the first byte when the disk of ``folder`` has fewer than ``needed`` bytes."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise LimitError(
            f"needs about {show_size(needed)} of disk, {show_size(free)} are free",
            where=folder,
            cure="free some space or write to another disk",
        )


@dataclasses.dataclass(frozen=True)
class EncoderCard:
    """Which encoder made a set of vectors; ``sha256`` is that of its safetensors.

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
    kind, factory : a key of `kaggle_rag.index.kinds.KINDS`, and FAISS's description made of it.
    vectors, step : precision of the stored vectors, and the int8 step (0 for the others).
    trained_on : vectors that lists and codes were learned from; 0 where nothing is learned.
    nprobe, depth : lists visited a query, and candidates measured again by the stored vectors.
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
    """The seal of an index: what it was made of, what it holds, and the checksum of every file.

    ``dense`` maps a retriever's name to its card, the default one first; ``lexical_rows`` are the
    passages of each BM25 part; ``asked`` is what the user wanted of them. ``files`` maps a path
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
    """How often which template, section or mark of the articles is in no passage."""

    KIND = "kaggle-rag index"

    @property
    def default(self) -> str:
        """Name of the dense retriever that is asked when no other is named."""
        return next(iter(self.dense))

    @property
    def encoder(self) -> EncoderCard:
        """The encoder of the default retriever."""
        return self.dense[self.default].encoder

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` with a checksum of its own."""
        fields = dataclasses.asdict(self)
        write_json(folder / MANIFEST, {**fields, "sha256": manifest_sum(fields)})

    @classmethod
    def read(cls, folder: str | Path) -> Manifest:
        """Read and check ``manifest.json``; raise ``ArtifactError`` when it is not one of ours."""
        folder = Path(folder)
        if folder.is_file():
            raise InputError("this is a file, not the folder of an index", where=folder)
        if not folder.is_dir():
            raise InputError(
                "no such index folder",
                where=folder,
                cure="build one: python -m wiki_index build CORPUS " + str(folder),
            )
        path = folder / MANIFEST
        if not path.exists():
            raise ArtifactError(
                "this folder has no manifest.json, so it is no finished index",
                where=folder,
                cure="name the folder that `python -m wiki_index build` wrote, or build it again",
            )
        try:
            fields = dict(json.loads(path.read_text(encoding="utf-8")))
            own = fields.pop("sha256", None)
            if (fields.get("kind"), fields.get("format")) != (cls.KIND, FORMAT):
                raise ValueError(f"kind {fields.get('kind')!r}, format {fields.get('format')!r}")
            if own != manifest_sum(fields):
                raise ValueError("its own checksum differs: it was changed after it was written")
            cards = {
                name: DenseCard(**{**card, "encoder": EncoderCard(**card["encoder"])})
                for name, card in fields["dense"].items()
            }
            return cls(**{**fields, "dense": cards})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"not a manifest this version reads ({error})",
                where=path,
                expected=f"kind {cls.KIND!r}, format {FORMAT}",
                cure="build the index again with this version of the kit",
            ) from error


def manifest_sum(fields: Mapping[str, Any]) -> str:
    """SHA-256 over the fields of a manifest, itself left out."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def seal(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Bytes and checksum of each named file of ``folder``, as the manifest keeps them."""
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in names
    }


def verify(
    folder: Path,
    files: Mapping[str, Mapping[str, Any]],
    *,
    content: Collection[str] | None = None,
    on_bytes: Callable[[int], object] | None = None,
    of: str = "index",
) -> None:
    """Raise ``ArtifactError`` unless every file is there with its size and its checksum.

    ``content`` names the files that are read for their checksum; ``None`` means all of them. ``of`` is
    what the messages call the folder.
    """
    again = f"copy the {of} again from where it was made, or remove the folder and make it again"
    for name, seal_of in files.items():
        path = folder / name
        if not path.exists():
            raise ArtifactError(f"a file of the {of} is missing", where=path, cure=again)
        if (size := path.stat().st_size) != seal_of["bytes"]:
            raise ArtifactError(
                f"the file has {size:,} bytes",
                where=path,
                expected=f"{seal_of['bytes']:,} bytes",
                cure=again,
            )
        read = content is None or name in content
        if read and sha256(path, on_bytes) != seal_of["sha256"]:
            raise ArtifactError(
                f"the file's checksum differs from that of the {of}: at least one byte has changed",
                where=path,
                cure=again,
            )
