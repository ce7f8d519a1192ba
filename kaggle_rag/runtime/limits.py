"""Memory and time: what a stage used at its peak, what it may use, and giving memory back afterwards."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from kaggle_rag.runtime.errors import ConfigError, LimitError, show_size

_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", re.IGNORECASE)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", re.IGNORECASE)
_SAMPLE_SECONDS = 0.02


def parse_size(text: str | int | float, where: str = "") -> int:
    """``"13GB"``, ``"800 MB"``, ``"12GiB"`` or a number of bytes, in bytes; only GiB is a power of 1024."""
    match = _SIZE.fullmatch(str(text))
    if match is None:
        raise ConfigError(
            f"cannot read the size {text!r}", where=where, expected="a size such as 13GB or 800MB"
        )
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].upper()])


def parse_duration(text: str, where: str = "") -> float:
    """``"8.5h"``, ``"40m"``, ``"90s"`` or a number of seconds, in seconds."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"cannot read the duration {text!r}", where=where, expected="a duration such as 8.5h, 40m or 90s"
        )
    return float(match[1]) * _SECONDS[match[2].lower()]


@dataclasses.dataclass(frozen=True)
class Need:
    """What a stage will need at its peak, in bytes, and the setting that reduces it.

    ``weights`` is the part of it for a model that the stage opens, ``size`` the whole model where only a part
    of it is in memory at a time; ``disk`` is what it writes.
    """

    stage: str
    ram: int
    setting: str
    gpu: int = 0
    weights: int = 0
    size: int = 0
    disk: int = 0


def require(
    need: Need, *, ram: int | None, gpu: int | None = None, disk: int | None = None
) -> None:
    """Refuse a stage before it starts if its estimate exceeds the user's budget.

    Raises
    ------
    LimitError : naming the estimate, the budget, and the setting to change.
    """
    for what, wanted, budget in (
        ("RAM", need.ram, ram), ("GPU memory", need.gpu, gpu), ("disk", need.disk, disk)
    ):  # fmt: skip
        if budget is not None and wanted > budget:
            raise LimitError(
                f"the stage '{need.stage}' would need about {show_size(wanted)} of {what}",
                expected=f"at most its budget of {show_size(budget)}",
                cure=need.setting,
            )


@dataclasses.dataclass
class Usage:
    """What one stage used; filled in at the end of the stage."""

    stage: str
    seconds: float = 0.0
    ram_peak: int = 0
    gpu_peak: int = 0

    def __str__(self) -> str:
        gpu = f", {show_size(self.gpu_peak)} GPU" if self.gpu_peak else ""
        return f"{self.stage}: {self.seconds:.1f} s, peak {show_size(self.ram_peak)} RAM{gpu}"


@contextmanager
def measured(stage: str) -> Iterator[Usage]:
    """Measure the wall time and the peak resident memory of a block, then give memory back.

    Resident memory counts mapped files too, as the notebook's own meter does. On Linux the kernel
    keeps the exact peak (``VmHWM``, reset through ``/proc/self/clear_refs``, see proc(5)); elsewhere
    it is sampled every 20 ms.
    """
    usage = Usage(stage)
    _on_gpu(lambda cuda: cuda.reset_peak_memory_stats())
    exact = _reset_peak()
    sampler = None if exact else _Sampler()
    start = time.perf_counter()
    try:
        yield usage
    finally:
        usage.seconds = time.perf_counter() - start
        usage.ram_peak = sampler.stop() if sampler else _kernel_peak()
        usage.gpu_peak = int(_on_gpu(lambda cuda: cuda.max_memory_allocated()) or 0)
        release()


def release() -> None:
    """Give unused memory back: Python's cycles, CUDA's cache, and the C heap's free pages."""
    gc.collect()
    _on_gpu(lambda cuda: cuda.empty_cache())
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _on_gpu(ask: Callable[[Any], Any]) -> Any:
    """What ``torch.cuda`` answers, if torch is already imported and has a GPU; never imports it.

    A GPU that was lost answers with the error that a stage has already ended with: the next ones go on.
    """
    torch = sys.modules.get("torch")
    try:
        return ask(torch.cuda) if torch is not None and torch.cuda.is_available() else None
    except RuntimeError:
        return None


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _kernel_peak() -> int:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def anonymous_memory() -> int:
    """Bytes of this process's RAM that are not backed by a file, so that the system cannot drop them."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return int(psutil.Process().memory_info().rss)
    line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


class _Sampler(threading.Thread):
    """Records the largest resident size it saw."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._process, self._done = psutil.Process(), threading.Event()
        self._peak = self._process.memory_info().rss
        self.start()

    def run(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def stop(self) -> int:
        self._done.set()
        self.join()
        return int(max(self._peak, self._process.memory_info().rss))


@contextmanager
def stage(name: str, quiet: bool) -> Iterator[None]:
    """Measure a stage, and print on stderr what it used."""
    with measured(name) as usage:
        yield
    if not quiet:
        print(usage, file=sys.stderr)
