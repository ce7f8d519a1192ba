"""``make demo`` as a user runs it: to the table of what contexts, a trained ranker and the ensemble add."""

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


@pytest.mark.slow
def test_the_demo_answers_better_with_evidence_and_training(tmp_path):
    _, scores = demo(tmp_path)
    for name, file in ROWS.items():
        found = score(tmp_path / file, TEST_ANSWERS).map_at_3.mean
        assert scores[name] == pytest.approx(found, abs=5e-4), name
    assert scores["without contexts"] < 0.6
    assert min(scores["with contexts"], scores["trained ranker"], scores["ensemble"]) > 0.9
    assert scores["trained ranker"] >= scores["with contexts"] - 0.02
    # A second run takes up what is there, and says the same.
    weights = (tmp_path / "ranker/model.safetensors").stat().st_mtime_ns
    again, same = demo(tmp_path)
    assert same == scores and again.count("nothing to do") == 3
    assert (tmp_path / "ranker/model.safetensors").stat().st_mtime_ns == weights
