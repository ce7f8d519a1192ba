"""Watch the processes of a run from outside: what they take, and an end where a limit is passed."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

# Seconds between two looks at the memory, at which processes there are, and at the disk.
_LOOK, _SEARCH, _MEASURE = 0.05, 0.25, 1.0
# The largest page by which the kernel rounds the size of a file system in memory.
_PAGE = 65_536


class Caps(NamedTuple):
    """What a run may take: seconds, and bytes."""

    seconds: float
    ram: int
    tmp: int
    working: int


@dataclasses.dataclass
class Watched:
    """What a run took.

    Attributes
    ----------
    seconds : from its start to its end.
    ram : most memory of all its processes together, in bytes, without files that the system can drop.
    tmp, working : most bytes in ``/tmp`` and in the working folder.
    ended : the cap that it passed (``seconds``, ``ram``, ``tmp``, ``working``); empty if it ended by itself.
    """

    seconds: float = 0.0
    ram: int = 0
    tmp: int = 0
    working: int = 0
    ended: str = ""


def watch(
    process: subprocess.Popen[bytes],
    caps: Caps,
    tmp: Path | None,
    working: Path,
    on_seconds: Callable[[float], object] | None = None,
) -> Watched:
    """Wait for a process that leads a session of its own; end it and all its children at a cap.

    Parameters
    ----------
    tmp : the folder that stands for ``/tmp``; ``None`` if it is a file system of the process's own.
    on_seconds : is given, about once a second, the seconds since its start.
    """
    watched, start = Watched(), time.perf_counter()
    searched = measured = float("-inf")
    family: list[psutil.Process] = []
    try:
        while process.poll() is None:
            now = time.perf_counter()
            if now - searched >= _SEARCH:
                searched, family = now, _family(process.pid)
            if now - measured >= _MEASURE:
                measured = now
                if on_seconds:
                    on_seconds(watched.seconds)
                watched.working = max(watched.working, _weight(working))
                watched.tmp = max(watched.tmp, _weight(tmp) if tmp else _filled(family, caps.tmp))
            watched.ram = max(watched.ram, memory([each.pid for each in family], caps.ram))
            watched.seconds = now - start
            if ended := _passed(watched, caps):
                watched.ended = ended
                break
            try:
                process.wait(_LOOK)
            except subprocess.TimeoutExpired:
                continue
    finally:
        _end(process, [*family, *_family(process.pid)])
    watched.seconds = time.perf_counter() - start
    watched.working = max(watched.working, _weight(working))
    watched.ended = watched.ended or ("working" if watched.working > caps.working else "")
    return watched


def _passed(watched: Watched, caps: Caps) -> str:
    return next((name for name in Caps._fields if getattr(watched, name) > getattr(caps, name)), "")


def _family(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def memory(pids: list[int], cap: int) -> int:
    """Bytes of RAM that these processes hold together and that no file backs.

    Pages that processes share since a fork are counted in each, unless that would pass the cap: then
    each counts its share of them, which takes the kernel longer to tell.
    """
    total = sum(_lines(f"/proc/{pid}/status", ("RssAnon:", "RssShmem:")) for pid in pids)
    if total > cap:
        total = sum(_lines(f"/proc/{pid}/smaps_rollup", ("Pss_Anon:", "Pss_Shmem:")) for pid in pids)
    return total


def _lines(path: str, names: tuple[str, ...]) -> int:
    """The sum of these lines of a file of proc(5), which counts in KiB; 0 if the process is gone."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(names))


def _filled(family: list[psutil.Process], size: int) -> int:
    """Bytes in the ``/tmp`` of the youngest of these processes, once that is a file system of this size.

    That it is full, the process is told by the kernel.
    """
    try:
        found = os.statvfs(f"/proc/{family[-1].pid}/root/tmp")
    except (OSError, IndexError):
        return 0
    is_own = abs(found.f_blocks * found.f_frsize - size) < _PAGE
    return min(size, (found.f_blocks - found.f_bfree) * found.f_frsize) if is_own else 0


def _weight(folder: Path) -> int:
    """Bytes of the files below a folder, as they lie on disk."""
    return sum(stat.st_blocks * 512 for stat in _stats(folder))


def _stats(folder: Path) -> Iterator[os.stat_result]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _stats(Path(entry.path))
            else:
                yield entry.stat(follow_symlinks=False)
        except OSError:
            continue


def _end(process: subprocess.Popen[bytes], family: list[psutil.Process]) -> None:
    """Kill what is left of a process and its children."""
    for each in family:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
