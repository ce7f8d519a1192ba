"""Files on disk between two stages: written atomically, sealed by checksums, checked on opening."""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError, LimitError, show_size

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
    with made_folder(path.parent):
        _remove_leftovers(path)
        aside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            yield aside
            with aside.open("rb+") as file:
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder next to ``path``; rename it to ``path`` when the block succeeds.

    If the block raises, nothing is left; what a killed writer left is removed by the next one.
    """
    aside = path.with_name(f".{path.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    with made_folder(path.parent):
        aside.mkdir()
        try:
            yield aside
            aside.rename(path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder and its parents; if the block raises, remove those of them that are new and empty."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for each in new:
            # One that holds something stays.
            with suppress(OSError):
                each.rmdir()
        raise


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


def known_sha256(path: Path) -> str:
    """The same, of a file that is read once per process unless it changes.

    A cross-validation asks per fold and ranker, a submission for each check, and for many gigabytes.
    """
    stat = path.stat()
    return _sum(path.absolute(), stat.st_ino, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _sum(path: Path, inode: int, size: int, changed: int) -> str:
    return sha256(path)


def require_space(folder: Path, needed: int) -> None:
    """Raise before the first byte if the disk of ``folder`` has fewer than ``needed`` bytes free."""
    free = shutil.disk_usage(existing_part(folder)).free
    if free < needed:
        raise LimitError(
            f"needs about {show_size(needed)} of disk, but only {show_size(free)} is free",
            where=folder,
            cure="free some space or write to another disk",
        )


def require_new(path: Path, what: str = "OUT") -> None:
    """Raise ``KitError``, before any work, unless ``path`` is free and can be written; make nothing."""
    if path.exists():
        raise ArtifactError(f"{what} already exists", where=path, cure="choose another name, or remove it")
    require_writable(path.parent)


def require_apart(*paths: Path | None) -> None:
    """Raise ``ConfigError`` if two of the outputs are one file, however their paths are spelt."""
    told: set[Path] = set()
    for path in filter(None, paths):
        if path.resolve() in told:
            raise ConfigError("two files of one name would be written", where=path, cure="choose another")
        told.add(path.resolve())


def require_writable(folder: Path) -> None:
    """Raise ``InputError`` if nothing can be written to ``folder``, which need not exist; make nothing."""
    try:
        tempfile.TemporaryFile(dir=existing_part(folder)).close()
    except OSError as error:
        raise InputError(
            f"cannot write here ({error.strerror})", where=existing_part(folder), cure="choose another path"
        ) from error


def existing_part(folder: Path) -> Path:
    """The folder, or the innermost of its parents that exists."""
    # A link to nothing exists too: no folder can be made in its place.
    return next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))


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
        if content is not None and name not in content:
            continue
        if (sha256(path, on_bytes) if on_bytes else known_sha256(path)) != seal_of["sha256"]:
            raise ArtifactError(
                f"the file's checksum differs from that of the {of}: at least one byte has changed",
                where=path,
                cure=cure,
            )


def fields_sha256(fields: Mapping[str, Any]) -> str:
    """SHA-256 over the fields of a manifest or a card, excluding itself."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
