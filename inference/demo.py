"""Run every stage on the embedded sample competition, each as its own command.

Stages communicate only through files, so existing results are reused, and every printed command works
with other files too.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import yaml

from inference.score import ranks_of
from kaggle_rag.evaluation.metrics import average_precision_at_k, bootstrap, paired_bootstrap
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.runtime.errors import KitError, show_size
from kaggle_rag.runtime.files import whole_file
from kaggle_rag.runtime.limits import Usage
from kaggle_rag.sample import ARTICLES, TEST, TEST_ANSWERS, TRAIN

# Forty seconds on two cores: a hundred questions, and the upper third of the encoder.
_TRAINING = {
    "form": "bi-encoder", "snippets": 4, "max-tokens": 64, "epochs": 2, "learning-rate": 5e-5, "held-out": 0,
    "frozen-layers": 4, "frozen-embeddings": True,
}  # fmt: skip
# The submissions, each with more behind it than the one before.
_BY_COST = ("without contexts", "with contexts", "trained ranker", "ensemble")
# Half of what a small free machine has.
_RAM = "4GB"


def demo(out: Path) -> int:
    """Make an index, contexts, a trained ranker and four submissions; print the cost and gain of each.

    Then show the last as a page, package it as an offline notebook, and rehearse that.
    """
    out.mkdir(parents=True, exist_ok=True)
    index, ranker, contexts = out / "index", out / "ranker", out / "contexts.parquet"
    page, bundle = out / "report.html", out / "bundle"
    train_contexts = out / "train_contexts.parquet"
    trained = {"kind": "trained", "options": {"folder": str(ranker.absolute()), "snippets": 8}}
    ensemble = _solution(out / "solution.yaml", [{"kind": "similarity"}, trained])
    # What each ranker answered in the ensemble is kept, so that it can be handed in by itself.
    answered = out / "submission.predictions"
    submit, blend = ["inference", "submit"], ["inference", "blend"]
    submissions: dict[str, tuple[Path, list[object]]] = {
        "without contexts": (
            out / "without_contexts.csv", [*submit, "--questions", TEST, "--without-contexts"]
        ),
        "ensemble": (out / "submission.csv", [*submit, "--config", ensemble]),
        "with contexts": (out / "similarity.csv", [*blend, answered / "similarity.parquet"]),
        "trained ranker": (out / "trained.csv", [*blend, answered / f"{ranker.name}.parquet"]),
    }  # fmt: skip
    find = ["inference", "contexts", "--index", index, "--questions"]
    settings = [word for key, value in _TRAINING.items() for word in (f"--{key}", value)]
    train = ["training", "multiple-choice", "--questions", TRAIN, "--contexts-file", train_contexts]
    stages: dict[str, list[object]] = {
        "index": ["wiki_index", "build", ARTICLES, index],
        "contexts": [*find, TEST, "--out", contexts],
        "contexts for training": [*find, TRAIN, "--out", train_contexts],
        "train": [*train, "--model", DEFAULT_ENCODER, *settings, "--out", ranker],
        **{f"answer: {name}": [*command, "--out", file] for name, (file, command) in submissions.items()},
        "report": ["inference", "report", answered, "--questions", TEST,
                   "--contexts-file", contexts, "--out", page],
        **_offline(ensemble, index, bundle),
    }  # fmt: skip
    # It is written whole or not at all, and quickly.
    shutil.rmtree(bundle, ignore_errors=True)
    usages = [_run(name, [str(word) for word in command]) for name, command in stages.items()]
    print(_table(usages))
    print(_scores({name: submissions[name][0] for name in _BY_COST}))
    print(f"\nsubmission: {out / 'submission.csv'}, made from {ensemble}")
    print(f"report:     {page}, why it answered as it did; open it in a browser")
    print(f"notebook:   {bundle}, {_rehearsed(stages)}")
    print(f"ask it:     python -m inference ask --index {index}")
    return 0


def _offline(solution: Path, index: Path, bundle: Path) -> dict[str, list[object]]:
    """The stages that package the solution, and rehearse it with the packages that are installed here."""
    names = ["--owner", "me", "--slug", "science-demo", "--competition", "the-sample-competition"]
    stages: dict[str, list[object]] = {
        "bundle": ["inference", "bundle", "--config", solution, "--index", index, *names, "--wheels", "none",
                   "--out", bundle],
    }  # fmt: skip
    if importlib.util.find_spec("nbclient"):
        given = ["--questions", TEST, "--quick", "--ram", _RAM]
        stages["rehearse"] = ["inference", "rehearse", bundle, *given]
    return stages


def _rehearsed(stages: Collection[str]) -> str:
    if "rehearse" in stages:
        return f"rehearsed offline with {_RAM} of RAM and the packages of this environment: it passed"
    return "not rehearsed: pip install nbclient ipykernel"


def _solution(path: Path, rankers: Sequence[Mapping[str, object]]) -> Path:
    """Write a solution for the test questions, their contexts and these rankers."""
    settings = {"questions": str(TEST), "contexts_file": "contexts.parquet", "rankers": list(rankers)}
    with whole_file(path) as aside:
        aside.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def _run(name: str, command: Sequence[str]) -> Usage:
    """Run one command; return its seconds and its peak resident memory, as the kernel counts it."""
    print("$ python -m " + shlex.join(command), flush=True)
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *command])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise KitError(f"the stage '{name}' failed with exit code {process.returncode}", cure="see above")
    # Linux counts ru_maxrss in KiB, macOS in bytes (getrusage(2)).
    unit = 1 if sys.platform == "darwin" else 1024
    return Usage(name, time.perf_counter() - start, used.ru_maxrss * unit)


def _table(usages: Sequence[Usage]) -> str:
    lines = ["", f"{'stage':26}{'seconds':>9}{'peak RAM':>12}"]
    lines += [f"{u.stage:26}{u.seconds:9.1f}{show_size(u.ram_peak):>12}" for u in usages]
    return "\n".join([*lines, ""])


def _scores(submissions: Mapping[str, Path]) -> str:
    """MAP@3 of each submission, and its gain over the one above it."""
    lines, above = [], None
    for name, file in submissions.items():
        values = average_precision_at_k(ranks_of(file, TEST_ANSWERS))
        gain = "" if above is None else str(paired_bootstrap(values, above))
        lines.append(f"{name:18}{bootstrap(values)!s:24}{gain}".rstrip())
        above = values
    return "\n".join([f"{'':18}{'MAP@3':24}gain over the row above", *lines])
