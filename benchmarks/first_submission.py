"""Seconds from the start of `inference submit` to the first valid submission, beside importing torch alone.

The file is watched from outside, validated as soon as it is there, and the program is killed then. A notebook
that answers first and writes later has no file before its libraries are even imported.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import parser, report, written_rows
from kaggle_rag.data.questions import Questions
from kaggle_rag.data.submission import validate
from kaggle_rag.data.tables import read_rows
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.sample import TEST

_POLL = 0.002


def first_file(questions: Path, out: Path) -> float:
    """Seconds until a valid submission stands."""
    read = Questions.read(questions)
    command = [
        sys.executable, "-m", "inference", "submit", "--questions", questions, "--without-contexts",
        "--out", out,
    ]  # fmt: skip
    start = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while not out.exists() and process.poll() is None:
            time.sleep(_POLL)
        seconds = time.perf_counter() - start
        validate(out, read.ids, read.options)
        process.kill()
    out.unlink()
    return seconds


def imports() -> float:
    """Seconds to import torch and transformers."""
    start = time.perf_counter()
    imported = "import torch; from transformers import AutoModelForMultipleChoice"
    subprocess.run([sys.executable, "-c", imported], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    flags = parser(__doc__ or "")
    flags.add_argument("--questions", type=int, default=4000, metavar="N", help="default: 4,000")
    arguments = flags.parse_args()
    rounds = 1 if arguments.quick else 7
    rows = list(read_rows(TEST))
    taken: dict[str, list[float]] = {"first valid submission": [], "import torch, transformers": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many = [{**rows[n % len(rows)], "id": str(n)} for n in range(arguments.questions)]
        questions = written_rows(many, folder / "test.csv")
        for _ in range(rounds):
            taken["first valid submission"].append(first_file(questions, folder / "submission.csv"))
            taken["import torch, transformers"].append(imports())
    ours = statistics.median(taken["first valid submission"])
    table = [
        {
            "": what, "seconds": f"{statistics.median(each):.2f}",
            "least to most": f"{min(each):.2f} to {max(each):.2f}",
            "ratio": f"{statistics.median(each) / ours:.2f}",
        }
        for what, each in taken.items()
    ]  # fmt: skip
    note = f"{arguments.questions:,} questions; wall time of the process so far, {rounds} rounds in turns."
    report("The first valid submission", table, arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
