"""Shared by the benchmarks: flags, tables and JSON, medians of repeats, the kit's commands, small files."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shlex
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kaggle_rag.data.contexts import QuestionContexts
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.rankers.scores import Scores
from kaggle_rag.rankers.similarity import SCORES, SimilarityRanker, score_of
from kaggle_rag.rankers.trained import TrainedRanker
from kaggle_rag.runtime.files import whole_file, write_json
from kaggle_rag.runtime.limits import anonymous_memory, measured, parse_size
from kaggle_rag.runtime.words import counted


def parser(description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--quick", action="store_true", help="a small version, under a minute")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers as JSON")
    return made


def seeds_flag(flags: argparse.ArgumentParser) -> None:
    """Differences over seeds need two of them at least."""

    def count(text: str) -> int:
        if int(text) < 2:
            raise argparse.ArgumentTypeError("differences over seeds need 2 at least")
        return int(text)

    flags.add_argument("--seeds", type=count, default=3, metavar="N", help="trainings of each (default: 3)")


def timed(name: str, work: Callable[[], Any], repeats: int = 3) -> tuple[Any, float, float]:
    """The work's result, its median seconds, and its peak resident memory in bytes."""
    seconds, peak, result = [], 0, None
    for _ in range(repeats):
        with measured(name) as usage:
            result = work()
        seconds.append(usage.seconds)
        peak = max(peak, usage.ram_peak)
    return result, statistics.median(seconds), peak


def report(title: str, rows: Sequence[Mapping[str, Any]], json_file: Path | None, note: str = "") -> None:
    """Print the command and a Markdown table; write the same rows as JSON if requested."""
    names = list(rows[0])
    lines = [["" if row.get(name) is None else str(row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in lines)) for i, name in enumerate(names)]
    given = sys.argv[1:]
    # The file of --json says nothing about the numbers.
    arguments = [a for i, a in enumerate(given) if a != "--json" and given[i - 1 : i] != ["--json"]]
    module = Path(sys.argv[0]).stem
    print(f"\n### {title}\n\n`{shlex.join(['python', '-m', f'benchmarks.{module}', *arguments])}`\n")
    for cells in (names, ["-" * width for width in widths], *lines):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |")
    if note:
        print(f"\n{note}")
    if json_file:
        write_json(json_file, {"title": title, "note": note, "rows": [dict(row) for row in rows]})


def score_tables(
    ranker: SimilarityRanker, questions: Questions, contexts: Sequence[QuestionContexts]
) -> dict[str, Scores]:
    """Every training-free score, ``(n, k)``, 0 for absent options; every text is encoded once."""
    present = questions.present
    tables = {name: np.zeros(present.shape) for name in SCORES}
    for row, views in enumerate(ranker.views(questions, contexts)):
        for name, table in tables.items():
            table[row, present[row]] = score_of(name, views)
    return tables


def kit(*command: Any) -> None:
    """Run a command as a user would type it."""
    subprocess.run([sys.executable, "-m", *map(str, command)], check=True, stdout=subprocess.DEVNULL)


def kept_answers(
    ranker: Path, questions: Questions, contexts: Sequence[QuestionContexts], name: str,
    precision: str | None = None,
) -> Probabilities:  # fmt: skip
    """A trained ranker's probabilities ``(n, k)`` of a table's questions, kept beside its folder.

    A ranker that was trained anew is asked anew; one precision of a ranker is kept.
    """
    notes = b"".join(path.read_bytes() for path in sorted(ranker.glob("*.json")))
    kept = ranker.with_name(f"{ranker.name}.{name}.{hashlib.sha256(notes).hexdigest()[:12]}.npy")
    if not kept.exists():
        with TrainedRanker(str(ranker), precision=precision) as opened:
            np.save(kept, opened.probabilities(questions, contexts))
    found: Probabilities = np.load(kept)
    return found


def corpus_of_texts(texts: Iterable[str], path: Path) -> Path:
    """Write a corpus of texts, each an article without a title and once, unless the file exists."""
    if not path.exists():
        once = dict.fromkeys(text.strip() for text in texts if text.strip())
        with whole_file(path) as aside, aside.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"title": "", "text": text}) + "\n" for text in once)
    return path


def index_of_texts(
    texts: Iterable[str], folder: Path, name: str, unit: str = "article", encoder: str = ""
) -> Path:
    """Build an index of texts, one article each; later calls reuse the first one's texts."""
    index, corpus = folder / name, corpus_of_texts(texts, folder / f"{name}.jsonl")
    kit("wiki_index", "build", corpus, index, "--unit", unit, *(["--encoder", encoder] if encoder else []))
    return index


def written_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write the rows as a table, with their keys as columns."""
    with whole_file(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def keep_within(gpu: str | None) -> None:
    """Let CUDA give this process no more memory than that, as a smaller card would."""
    if gpu and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, parse_size(gpu, "--gpu") / total))


def where() -> str:
    """The card, or the CPU's threads."""
    cuda = torch.cuda.is_available()
    return torch.cuda.get_device_name() if cuda else f"CPU, {counted(torch.get_num_threads(), 'thread')}"


class Watch(threading.Thread):
    """The peak anonymous memory of this process inside the ``with`` block, sampled every 20 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._done = anonymous_memory(), threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        while not self._done.wait(0.02):
            self.peak = max(self.peak, anonymous_memory())
