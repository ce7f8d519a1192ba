"""The whole way on the embedded sample competition, each stage a command of its own.

The stages talk through files only, so what is there already is taken up, and every command printed
can be typed by hand with other files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kaggle_rag.errors import KitError, show_size
from kaggle_rag.limits import Usage
from kaggle_rag.sample import ARTICLES, TEST, TEST_ANSWERS


def demo(out: Path) -> int:
    """Index, contexts, two submissions, two scores, and a table of what each stage took."""
    index, contexts = str(out / "index"), str(out / "contexts.parquet")
    submission, blind = str(out / "submission.csv"), str(out / "submission_without_contexts.csv")
    out.mkdir(parents=True, exist_ok=True)
    questions = ["--questions", str(TEST)]
    stages = {
        "index": ["wiki_index", "build", str(ARTICLES), index],
        "contexts": ["inference", "contexts", *questions, "--index", index, "--out", contexts],
        "answers": ["inference", "submit", *questions, "--contexts-file", contexts, "--out", submission],
        "answers without contexts": ["inference", "submit", *questions, "--without-contexts", "--out", blind],
    }
    usages = [_run(name, command) for name, command in stages.items()]
    print(_table(usages))
    for label, file in (("with contexts", submission), ("without contexts", blind)):
        print(f"{label:17}", _scored(file))
    print(f"\nsubmission: {submission}\nask it:     python -m inference ask --index {index}")
    return 0


def _run(name: str, command: Sequence[str]) -> Usage:
    """Run one command; its seconds, and the peak resident memory the kernel kept of it."""
    print("$ python -m " + " ".join(command), flush=True)
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *command])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise KitError(f"the stage '{name}' failed with exit code {process.returncode}", cure="see above")
    # Linux counts ru_maxrss in KiB, macOS in bytes (getrusage(2)).
    unit = 1 if sys.platform == "darwin" else 1024
    return Usage(name, time.perf_counter() - start, used.ru_maxrss * unit)


def _scored(submission: str) -> str:
    command = [sys.executable, "-m", "inference", "score", submission, str(TEST_ANSWERS), "--json"]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return (
        f"MAP@3 {result['map@3']:.3f} [{result['low']:.3f}, {result['high']:.3f}], "
        f"accuracy {result['accuracy']:.3f}, {result['questions']} questions"
    )


def _table(usages: Sequence[Usage]) -> str:
    lines = ["", f"{'stage':26}{'seconds':>9}{'peak RAM':>12}"]
    lines += [f"{u.stage:26}{u.seconds:9.1f}{show_size(u.ram_peak):>12}" for u in usages]
    return "\n".join([*lines, ""])
