"""Two checkouts side by side: their commands alternate, each in its own process."""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kaggle_rag.runtime.errors import ConfigError, KitError, show_size

HERE = Path(__file__).resolve().parent.parent
# Variables that this kit or the user may have set: each checkout gets an environment without them.
_OWN = ("OMP_", "GOMP_", "TOKENIZERS_", "TRANSFORMERS_VERBOSITY", "HF_DATASETS_DISABLE", "PYTHONPATH")


@dataclasses.dataclass(frozen=True)
class Ran:
    """One command: its wall time, its peak resident memory in bytes, its stderr."""

    seconds: float
    peak: int
    said: str


@dataclasses.dataclass(frozen=True)
class Tree:
    """A checkout of this kit."""

    name: str
    folder: Path

    def run(self, *command: Any, code: int = 0) -> Ran:
        """Run a command as a user would, from another folder; raise ``KitError`` for any other exit code."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
        words = [sys.executable, "-m", *map(str, command)]
        start = time.perf_counter()
        process = subprocess.Popen(
            words, cwd="/", env={**kept, "PYTHONPATH": str(self.folder)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != code:
            raise KitError(f"{self.name}: exit code {process.returncode}", where=" ".join(words), cure=said)
        # Linux counts ru_maxrss in KiB, macOS in bytes (getrusage(2)).
        return Ran(seconds, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024), said)


def add_baseline(flags: argparse.ArgumentParser) -> None:
    flags.add_argument(
        "--baseline", type=Path, metavar="DIR",
        help="a checkout to compare with: git worktree add DIR REVISION (default: none)",
    )  # fmt: skip


def trees(baseline: Path | None) -> list[Tree]:
    """This checkout, and the one to compare with."""
    ours = Tree("ours", HERE)
    if baseline is None:
        return [ours]
    if not (baseline / "kaggle_rag").is_dir():
        cure = "git worktree add DIR REVISION"
        raise ConfigError("not a checkout of the kit", where=baseline, cure=cure)
    return [ours, Tree("baseline", baseline.resolve())]


def columns(name: str, taken: Sequence[float], first: Sequence[float]) -> dict[str, str]:
    """Median, minimum and maximum, and the ratio of the median to that of ``first``."""
    ratio = statistics.median(taken) / statistics.median(first)
    return {
        name: f"{statistics.median(taken):.2f}",
        "least to most": f"{min(taken):.2f} to {max(taken):.2f}",
        "ratio": f"{ratio:.2f}",
    }


def peak_of(ran: Sequence[Ran]) -> str:
    return show_size(max(each.peak for each in ran))
