"""``make demo`` as a user runs it: the table of what each step adds, the page, and the rehearsed notebook."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

from inference.score import score
from kaggle_rag.sample import TEST_ANSWERS

ROWS = {"without contexts": "without_contexts.csv", "with contexts": "similarity.csv",
        "trained ranker": "trained.csv", "ensemble": "submission.csv"}  # fmt: skip


def demo(out):
    command = [sys.executable, "-m", "inference", "demo", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout, {
        name: float(re.search(rf"^{name} +([0-9.]+) \[", done.stdout, re.M)[1]) for name in ROWS
    }


# `make compat` runs it too, and so does CI with a notebook image's versions.
@pytest.mark.slow
@pytest.mark.long
def test_the_demo_answers_better_with_evidence_and_training(tmp_path):
    said, scores = demo(tmp_path)
    for name, file in ROWS.items():
        found = score(tmp_path / file, TEST_ANSWERS).map_at_3.mean
        assert scores[name] == pytest.approx(found, abs=5e-4), name
    assert scores["without contexts"] < 0.6
    assert min(scores["with contexts"], scores["trained ranker"], scores["ensemble"]) > 0.9
    assert scores["trained ranker"] >= scores["with contexts"] - 0.02
    # Offline, with little memory, and without a fault.
    assert "me/science-demo: passed in 1 case" in said and "RAM: 4.00 GB" in said
    assert f"report:     {tmp_path / 'report.html'}" in said and (tmp_path / "report.html").is_file()
    assert (tmp_path / "bundle" / "bundle.json").is_file() and "it passed" in said
    # A second run takes up what is there, and says the same.
    weights = (tmp_path / "ranker/model.safetensors").stat().st_mtime_ns
    again, same = demo(tmp_path)
    assert same == scores and again.count("nothing to do") == 3
    assert (tmp_path / "ranker/model.safetensors").stat().st_mtime_ns == weights
