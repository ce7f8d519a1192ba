"""What this machine can enforce of the judge's limits, found out by trying."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile

import psutil
from packaging.version import Version

from kaggle_rag.runtime.errors import show_size

UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child")
# Cores of the judge's machine.
CORES = 4
# The first version whose allocator reads a share of the GPU's memory from its settings.
_FRACTION = Version("2.13")
# Share of the free memory that an own /tmp may take: it lies in memory.
_MOST = 0.25


def scope(ram: int) -> list[str]:
    """What runs a command in a control group of so much memory (systemd.resource-control(5))."""
    mine = [] if os.geteuid() == 0 else ["--user"]
    limits = ["-p", f"MemoryMax={ram}", "-p", "MemorySwapMax=0"]
    return ["systemd-run", *mine, "--scope", "--quiet", *limits, "--"]


@dataclasses.dataclass(frozen=True)
class Means:
    """How each limit is enforced.

    Attributes
    ----------
    namespaces : file systems and the network of its own, so that inputs are read-only and nothing answers.
    own_tmp : ``/tmp`` is a file system of its size; else it is weighed once a second.
    control_group : the kernel caps the memory; else it is looked at 20 times a second.
    gpu : bytes of the GPU's memory; 0 without a GPU.
    gpu_capped : whether torch's allocator keeps to a share of it.
    """

    namespaces: bool
    own_tmp: bool
    control_group: bool
    gpu: int = 0
    gpu_capped: bool = False

    def lines(self, ram: int, tmp: int, working: int, gpu: int) -> dict[str, str]:
        """What is enforced, in words."""
        weighed = "weighed once a second; the run ends where it is passed"
        return {
            "inputs": "mounted read-only under /kaggle/input" if self.namespaces else (
                "copies, compared afterwards: this machine allows no user and mount namespaces, so that "
                "KAGGLE_INPUT stands for /kaggle/input"
            ),
            "network": "none: a network namespace" if self.namespaces else (
                "Python's sockets refuse other machines; programs that are not Python are not hindered"
            ),
            "RAM": f"{show_size(ram)}, " + (
                "by a control group (systemd-run)" if self.control_group else
                "looked at 20 times a second; the run ends where it is passed" if sys.platform == "linux" else
                "not capped: this needs Linux"
            ),
            "/tmp": f"{show_size(tmp)}, " + ("a file system of its own" if self.own_tmp else weighed),
            "/kaggle/working": f"{show_size(working)}, {weighed}",
            "cores": f"{min(CORES, os.cpu_count() or 1)}",
            "GPU memory": "no GPU here" if not self.gpu else f"{show_size(min(gpu, self.gpu))}, " + (
                "by torch's allocator" if self.gpu_capped else f"not capped: torch before {_FRACTION} cannot"
            ),
        }  # fmt: skip


def means(tmp: int) -> Means:
    """What this machine can do; ``tmp`` is the size wanted for ``/tmp``, in bytes."""
    namespaces = _works([*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", tempfile.gettempdir()])
    gpu = _gpu_memory()
    return Means(
        namespaces,
        namespaces and tmp <= psutil.virtual_memory().available * _MOST,
        shutil.which("systemd-run") is not None and _works([*scope(10**9), "true"]),
        gpu, gpu > 0 and Version(importlib.metadata.version("torch")) >= _FRACTION,
    )  # fmt: skip


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _gpu_memory() -> int:
    """Bytes of the first GPU's memory, as its driver tells; 0 without one."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
        return int(done.stdout.split()[0]) * 1024**2 if done.returncode == 0 else 0
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return 0
