"""Files on disk between two stages: written atomically, sealed by checksums, checked on opening."""

from __future__ import annotations

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

_BLOCK = 1 << 20


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; rename it over ``path`` when the block succeeds.

    A reader sees the old file or the new one, never half of one (POSIX ``rename`` is atomic); if
    the block raises, or the process is killed, ``path`` is as it was.
    """
    # With a link, the file it points to is replaced, not the link.
    path = Path(path).resolve()
    if path.exists() and not path.is_file():
        raise InputError(
            "not a file that could be written atomically", where=path, cure="choose another path"
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
    """Remove what killed writers of this file left behind."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        pid = part.name.removesuffix(".part").rpartition(".")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            part.unlink(missing_ok=True)


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as readable JSON, atomically."""
    with whole_file(path) as aside:
        aside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256(path: str | Path, on_bytes: Callable[[int], object] | None = None) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits; ``on_bytes`` receives the size of each block."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if on_bytes:
                on_bytes(len(block))
    return digest.hexdigest()


def require_space(folder: Path, needed: int) -> None:
    """Raise before the first byte if the disk of ``folder`` has fewer than ``needed`` bytes free."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise LimitError(
            f"needs about {show_size(needed)} of disk, but only {show_size(free)} is free",
            where=folder,
            cure="free some space or write to another disk",
        )


def seal(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Bytes and checksum of each named file of ``folder``, as the manifest stores them."""
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
    """Raise ``ArtifactError`` unless every file exists with its size and its checksum.

    ``content`` names the files that are read for their checksum; ``None`` means all of them. ``of`` is
    what the messages call the folder.
    """
    cure = f"copy the {of} again from where it was made, or remove the folder and make it again"
    for name, seal_of in files.items():
        path = folder / name
        if not path.exists():
            raise ArtifactError(f"a file of the {of} is missing", where=path, cure=cure)
        if (size := path.stat().st_size) != seal_of["bytes"]:
            raise ArtifactError(
                f"the file has {size:,} bytes",
                where=path,
                expected=f"{seal_of['bytes']:,} bytes",
                cure=cure,
            )
        read = content is None or name in content
        if read and sha256(path, on_bytes) != seal_of["sha256"]:
            raise ArtifactError(
                f"the file's checksum differs from that of the {of}: at least one byte has changed",
                where=path,
                cure=cure,
            )


def fields_sha256(fields: Mapping[str, Any]) -> str:
    """SHA-256 over the fields of a manifest or a card, excluding itself."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
