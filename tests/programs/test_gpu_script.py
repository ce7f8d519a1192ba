"""benchmarks/gpu.sh runs every step whatever becomes of the others, and says what became of each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.sh"
STEPS = [
    "scoring, fp16", "scoring, NF4", "streaming 7 B, fp16", "streaming 7 B, NF4", "QLoRA, 7 B",
    "streaming 32 B, NF4", "DeBERTa, fp16", "exact search", "encoding",
]  # fmt: skip


def run(*flags, **changes):
    return subprocess.run(
        [SCRIPT, *flags], env={**os.environ, **changes}, capture_output=True, text=True, check=False
    )


def results(done):
    """What the summary says of each step."""
    summary = done.stdout.partition("### Summary")[2]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in summary.splitlines()[4:]]
    return {name: result for name, result, _, _ in rows}


def test_a_step_that_fails_or_hangs_stops_no_other(tmp_path):
    stub = tmp_path / "python"
    stub.write_text(
        '#!/bin/sh\ncase "$*" in *--alone*) sleep 60;; *benchmarks.encode*) exit 3;; *) echo "$@";; esac\n'
    )
    stub.chmod(0o755)
    done = run("--quick", PYTHON=str(stub), SECONDS_EACH="1", TMPDIR=str(tmp_path))
    assert done.returncode == 1, done.stderr
    found = results(done)
    assert list(found) == STEPS
    assert found.pop("streaming 7 B, fp16") == "out of time"
    assert found.pop("encoding") == "failed (3)"
    assert set(found.values()) == {"ran"}
    # What it wrote is gone.
    assert [path.name for path in tmp_path.iterdir()] == ["python"]


def test_the_steps_are_given_less_than_eight_minutes(tmp_path):
    done = run(PYTHON="true", TMPDIR=str(tmp_path))
    assert done.returncode == 0 and list(results(done)) == STEPS
    rows = done.stdout.partition("### Summary")[2].splitlines()[4:]
    assert sum(int(row.strip("| ").split("|")[3]) for row in rows) < 480


def test_other_flags_are_refused():
    done = run("--fast")
    assert done.returncode == 2 and "usage" in done.stderr


@pytest.mark.slow
@pytest.mark.long
def test_every_step_runs_on_a_cpu():
    done = run("--quick", PYTHON=sys.executable, SECONDS_EACH="300")
    assert done.returncode == 0, done.stderr[-4000:]
    assert set(results(done).values()) == {"ran"} and done.stdout.count("### ") == len(STEPS) + 1
