"""Rank the sample's 76 questions on idle cores and on busy ones; next to another checkout."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.common import parser, report
from benchmarks.trees import Ran, Tree, add_baseline, columns, peak_of, trees
from kaggle_rag.runtime.errors import KitError, run_program
from kaggle_rag.runtime.words import counted
from kaggle_rag.sample import ARTICLES, TEST

# How inference reports the stage: "rank: similarity: 3.6 s, peak ...".
_STAGE = re.compile(r"^rank: [^:]+: ([\d.]+) s", re.MULTILINE)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Processes that each use as much of a core as they can get."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def seconds_of(ran: Ran) -> float:
    found = _STAGE.search(ran.said)
    if found is None:
        raise KitError("inference does not say how long it ranked", where=ran.said)
    return float(found[1])


def prepared(tree: Tree, folder: Path) -> list[str | Path]:
    """Make a checkout's index and contexts; return its command that ranks with them."""
    index, contexts = folder / tree.name, folder / f"{tree.name}.parquet"
    tree.run("wiki_index", "build", ARTICLES, index)
    tree.run("inference", "contexts", "--questions", TEST, "--index", index, "--out", contexts)
    out = folder / f"{tree.name}.csv"
    # The same work in both: the default score may have changed between two checkouts.
    settings = ["--set", "rankers=[{kind: similarity, options: {score: novel}}]"]
    return ["inference", "submit", "--questions", TEST, "--contexts-file", contexts, "--out", out, *settings]


def rows_of(ran: Mapping[tuple[str, str], Sequence[Ran]], idle: str) -> list[dict[str, str]]:
    """One row per state and checkout, with the ratio to ours, and to the same checkout idle."""
    rows = []
    for (state, name), times in ran.items():
        taken, ours, own = (
            [seconds_of(each) for each in ran[key]] for key in ((state, name), (state, "ours"), (idle, name))
        )
        times_idle = statistics.median(taken) / statistics.median(own)
        rows.append(
            {"machine": state, "checkout": name, **columns("seconds", taken, ours),
             "times idle": f"{times_idle:.2f}", "peak RAM": peak_of(times)}
        )  # fmt: skip
    return rows


def main() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    flags = parser(str(__doc__))
    add_baseline(flags)
    flags.add_argument(
        "--loops", type=int, default=cores, metavar="N", help="busy processes (default: one per core)"
    )
    arguments = flags.parse_args()
    rounds = 1 if arguments.quick else 5
    asked = trees(arguments.baseline)
    states = {"idle": 0, f"{arguments.loops} busy": arguments.loops}
    ran: dict[tuple[str, str], list[Ran]] = {}
    with tempfile.TemporaryDirectory() as name:
        commands = {tree: prepared(tree, Path(name)) for tree in asked}
        for state, loops in states.items():
            with busy(loops):
                for _ in range(rounds):
                    # Alternating, because the machine's other load changes by the minute.
                    for tree, command in commands.items():
                        ran.setdefault((state, tree.name), []).append(tree.run(*command))
    note = (
        f"Seconds of the ranking stage alone, {counted(rounds, 'round')} in turns on "
        f"{counted(cores, 'core')}, beside so many busy loops; the environment sets nothing of OpenMP."
    )
    report("Busy machine", rows_of(ran, "idle"), arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
