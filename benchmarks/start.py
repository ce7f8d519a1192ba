"""How long a user waits for an error message, --help, a search, an answer; next to another checkout."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import parser, report
from benchmarks.trees import Ran, Tree, add_baseline, columns, peak_of, trees
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.sample import ARTICLES, TEST

_ASKED = "Why does iron rust in moist air?"


def commands(index: Path, folder: Path) -> dict[str, tuple[int, list[Any]]]:
    """The commands to time, with their exit codes."""
    nowhere, out = folder / "nowhere", folder / "submission.csv"
    options = ["--option", "It reacts with oxygen and water", "--option", "It melts"]
    return {
        "--help": (0, ["inference", "--help"]),
        "bad input: search": (2, ["wiki_index", "search", nowhere, _ASKED]),
        "bad input: build": (2, ["wiki_index", "build", nowhere, folder / "new"]),
        "bad input: submit": (
            2, ["inference", "submit", "--questions", nowhere, "--index", index, "--out", out]
        ),
        "bad input: train": (
            2, ["training", "retriever", "--questions", TEST, "--positive", "fact", "--out", folder / "model"]
        ),
        "search": (0, ["wiki_index", "search", index, _ASKED]),
        "first ask": (0, ["inference", "ask", "--index", index, "--prompt", _ASKED, *options]),
    }  # fmt: skip


def rows_of(ran: Mapping[tuple[str, str], Sequence[Ran]]) -> list[dict[str, str]]:
    """One row per command and checkout; ratios to ours."""
    rows = []
    for (command, name), times in ran.items():
        taken, ours = ([each.seconds for each in ran[command, tree]] for tree in (name, "ours"))
        figures = columns("seconds", taken, ours)
        rows.append({"command": command, "checkout": name, **figures, "peak RAM": peak_of(times)})
    return rows


def main() -> int:
    flags = parser(str(__doc__))
    add_baseline(flags)
    arguments = flags.parse_args()
    rounds = 2 if arguments.quick else 7
    asked: Sequence[Tree] = trees(arguments.baseline)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = {}
        for tree in asked:
            # Each checkout searches its own index.
            tree.run("wiki_index", "build", ARTICLES, folder / tree.name)
            made[tree.name] = commands(folder / tree.name, folder)
        ran: dict[tuple[str, str], list[Ran]] = {}
        for command in made["ours"]:
            for _ in range(rounds):
                # Alternating, because the machine's other load changes by the minute.
                for tree in asked:
                    code, words = made[tree.name][command]
                    ran.setdefault((command, tree.name), []).append(tree.run(*words, code=code))
    note = f"Wall time of the whole process, {rounds} rounds in turns; files are in the system's cache."
    report("Start", rows_of(ran), arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
