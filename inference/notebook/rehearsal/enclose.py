"""Make a file system in which a notebook finds what Kaggle would show it, and run a program in it.

Run by its path as root of new user, mount, network and process namespaces (``unshare``), with the standard
library alone; it is given a JSON object. All that this machine has is there, read-only; ``/tmp`` and
``/root`` are empty.

root : a folder to build it in.
tmp : bytes that /tmp may take; null for as much as its folder has.
readable, writable : folders by the path that they get.
needed : folders that stay visible if they lie below one of these two.
command, cwd : what is run, and where.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

_OWN = {"proc", "tmp", "root", "kaggle", "rehearsal"}
_INPUT = "kaggle/input"
# Devices stay as they are.
_SPECIAL = {"dev", "sys"}
_SET_FLAGS, _UP_AND_RUNNING = 0x8914, 0x41  # netdevice(7)


def main(job: dict[str, Any]) -> None:
    root = Path(job["root"])
    mount("-t", "tmpfs", "-o", "size=16m,mode=755", "tmpfs", root)
    _show_machine(root)
    _mount_proc(root)
    (root / "tmp").mkdir()
    if job["tmp"]:
        mount("-t", "tmpfs", "-o", f"size={job['tmp']},mode=1777", "tmpfs", root / "tmp")
    for name, folder in job["writable"].items():
        bind(folder, root / name.lstrip("/"))
    for folder in filter(_is_hidden, job["needed"]):
        bind(folder, root / folder.lstrip("/"), readable=True)
    (root / _INPUT).mkdir()
    mount("-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", root / _INPUT)
    for name, folder in job["readable"].items():
        bind(folder, root / name.lstrip("/"), readable=True)
    # What was made to mount things on is not to be written to.
    mount("-o", "remount,ro", root / _INPUT)
    mount("-o", "remount,ro", root)
    _start_loopback()
    os.chroot(root)
    os.chdir(job["cwd"])
    os.execv(job["command"][0], job["command"])


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def bind(folder: str, place: Path, *, readable: bool = False) -> None:
    place.mkdir(parents=True, exist_ok=True)
    mount("--bind", folder, place)
    if readable:
        read_only(place)


def read_only(place: Path) -> None:
    """Flags that a mount has in the parent namespace must be repeated, or the kernel refuses."""
    kept = [flag for flag in _flags(place) if flag not in ("rw", "ro")]
    mount("-o", ",".join(["remount", "bind", "ro", *kept]), place)


def _mounts() -> dict[str, str]:
    """Flags by mount point (proc_pid_mountinfo(5)); the topmost mount counts."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    fields = [line.split(" ") for line in lines]
    return {field[4].encode().decode("unicode_escape"): field[5] for field in fields}


def _flags(place: Path) -> list[str]:
    return _mounts()[str(place)].split(",")


def _show_machine(root: Path) -> None:
    for path in sorted(Path("/").iterdir()):
        if path.is_symlink():
            (root / path.name).symlink_to(path.readlink())
        elif path.is_dir() and path.name not in _OWN:
            (root / path.name).mkdir()
            mount("--rbind", path, root / path.name)
    special = [root / name for name in _SPECIAL]
    for place in map(Path, _mounts()):
        inside = root in place.parents
        if inside and not any(place == each or each in place.parents for each in special):
            try:
                read_only(place)
            except subprocess.CalledProcessError:
                print(f"{place} stays writable", file=sys.stderr)


def _mount_proc(root: Path) -> None:
    (root / "proc").mkdir()
    try:
        mount("-t", "proc", "proc", root / "proc")
    except subprocess.CalledProcessError:
        # Containers hide parts of it, and then a new one is refused.
        mount("--rbind", "/proc", root / "proc")


def _is_hidden(folder: str) -> bool:
    return bool({Path("/tmp"), Path("/root")} & {*Path(folder).parents})


def _start_loopback() -> None:
    """Programs talk to themselves over it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        fcntl.ioctl(wire, _SET_FLAGS, struct.pack("16sH14x", b"lo", _UP_AND_RUNNING))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
