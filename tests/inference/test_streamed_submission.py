"""A submission with a streamed ranker: killed between its layers, short of time, short of memory."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from ranker_toys import files, rows, sharded
from submit_toys import OPTIONS, Submit, trained

from inference.run_log import Clock
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.questions import Questions
from kaggle_rag.data.submission import validate
from kaggle_rag.models.streaming import hidden_states, layers, model
from kaggle_rag.models.streaming.shards import Parts
from kaggle_rag.models.streaming.skeleton import Skeleton
from kaggle_rag.rankers import streamed
from kaggle_rag.rankers.trained import TrainedRanker

LAYERS = 6


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Six layers in several files."""
    return sharded(tmp_path_factory.mktemp("deep") / "deep", LAYERS)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Forty questions, and the file that they are in."""
    path, _ = files(tmp_path_factory.mktemp("asked"), "test", rows(40, 0))
    return path, Questions.read(path)


@pytest.fixture(scope="module")
def expected(deep, asked):
    """What the model in memory answers."""
    with TrainedRanker(str(deep), **OPTIONS) as ranker:
        return ranker.probabilities(asked[1], None)


@pytest.fixture
def run(deep, asked, tmp_path, monkeypatch, capsys):
    """``submit`` with the streamed ranker, and others before it."""
    submit = Submit(asked[0], tmp_path, monkeypatch, capsys)

    def run(*flags, before=(), **options):
        return submit([*before, trained(deep, **{**OPTIONS, "streamed": True, **options})], *flags)

    run.submit, run.out, run.folder, run.valid = submit, submit.out, submit.folder, submit.valid
    run.table = lambda name="deep": submit.table(name)
    return run


@pytest.fixture
def seen(monkeypatch):
    """The parts that were read, and the layers that were computed."""
    read, through = Parts._read, Skeleton.through
    found = {"read": [], "computed": []}

    def reading(self, number):
        found["read"].append(number)
        return read(self, number)

    def computing(self, layer, hidden, batch):
        if found.get("stop") == layer and layer in found["computed"]:
            raise KeyboardInterrupt
        found["computed"].append(layer)
        return through(self, layer, hidden, batch)

    monkeypatch.setattr(Parts, "_read", reading)
    monkeypatch.setattr(Skeleton, "through", computing)
    return found


@pytest.mark.parametrize("free", [0, pytest.param(0.5, marks=pytest.mark.slow)])
def test_an_interrupted_run_goes_on_behind_the_last_finished_layer(run, seen, expected, monkeypatch, free):
    # Without free memory, hidden states are in files from the start; else they are copied there.
    monkeypatch.setattr(streamed, "_FREE", free)
    monkeypatch.setattr(hidden_states, "_SHARE", 0)
    seen["stop"] = 3
    assert run()[0] == 130 and run.valid()
    assert (run.folder / "deep.pass" / "finished.json").exists()
    seen.update(stop=None, read=[], computed=[])
    assert run()[0] == 0
    # Part 0 is the embedding, part n + 1 the layer n, the last one the head.
    assert seen["read"] == [4, 5, 6, 7] and set(seen["computed"]) == {3, 4, 5}
    assert run.table() == pytest.approx(expected, abs=1e-5)
    assert not (run.folder / "deep.pass").exists()


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves while layers are computed, a second a layer if all questions are asked."""
    found = types.SimpleNamespace(now=0.0, token=0.0)
    through = Skeleton.through

    def computing(self, layer, hidden, batch):
        found.now += found.token * batch["input_ids"].numel()
        return through(self, layer, hidden, batch)

    monkeypatch.setattr(Skeleton, "through", computing)
    monkeypatch.setattr(layers, "time", types.SimpleNamespace(perf_counter=lambda: found.now))
    monkeypatch.setattr(Clock, "elapsed", lambda self: found.now)
    monkeypatch.setattr(model, "_GROUP", 4)
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A ranker that is asked first, for it is smaller."""
    return sharded(tmp_path_factory.mktemp("small") / "small", 1, seed=1)


def test_short_of_time_it_answers_the_least_certain_questions(run, clock, small, expected):
    first = trained(small, **OPTIONS)
    clock.token = 1.0
    assert run(before=[first])[0] == 0
    assert np.isfinite(run.table()).all()
    whole, clock.now = clock.now, 0.0
    shutil.rmtree(run.folder)
    code, said = run("--time", f"{0.6 * whole:.0f}s", before=[first])
    assert code == 0 and run.valid() and clock.now <= 0.6 * whole
    assert "of 40 questions and 4 layers" in said
    answered = np.isfinite(run.table()).all(axis=1)
    assert 12 <= answered.sum() < 30
    assert f"deep answered the {answered.sum()} least certain of 40 questions: limits.time" in said
    assert run.table()[answered] == pytest.approx(expected[answered], abs=1e-5)
    # In groups of four, by the margin of the ranker before.
    best = np.sort(run.table("small"), axis=1)
    order = np.argsort(best[:, -1] - best[:, -2], kind="stable")
    groups = answered[order].reshape(-1, 4).mean(axis=1)
    assert sorted(groups, reverse=True) == groups.tolist()


def test_a_ranker_for_which_the_time_is_too_short_is_skipped(run, clock, small):
    first = trained(small, **OPTIONS)
    clock.token = 1.0
    code, said = run("--time", "300s", before=[first])
    assert code == 0 and run.valid() and clock.now <= 300
    assert "deep was skipped" in said and "limits.time" in said
    assert run.submit.stages() == [("rank: small", 40, ""), ("rank: deep", 0, "")]
    assert not (run.folder / "deep.pass").exists()


def test_a_dry_run_forecasts_one_pass_for_all_questions(run, clock):
    """A hundred times the questions take about a hundred times as long."""
    clock.token = 0.1
    assert run()[0] == 0
    whole, clock.now = clock.now, 0.0
    shutil.rmtree(run.folder)
    run.out.unlink()
    assert run("--dry-run", "--questions-expected", "4000", "--time", f"{60 * whole:.0f}s")[0] == 0
    said = re.search(r"rank: deep: only ([\d,]+) of 4,000 questions", run.submit.printed)
    assert said and 1900 < int(said[1].replace(",", "")) < 2700
    assert not run.out.exists() and not run.folder.exists()


_COUNTED = """
import sys
from kaggle_rag.models.streaming.shards import Parts
from kaggle_rag.rankers import streamed
# No memory is free: hidden states are in files from the start.
streamed._FREE = 0
read, counts = Parts._read, sys.argv[1]
def reading(self, number):
    with open(counts, "a") as file:
        file.write(f"{number}\\n")
    return read(self, number)
Parts._read = reading
sys.argv = ["inference", *sys.argv[2:]]
from inference.__main__ import main
from kaggle_rag.runtime.errors import run_program
sys.exit(run_program(main))
"""


@pytest.mark.slow
def test_a_killed_process_goes_on_behind_the_last_finished_layer(deep, asked, expected, tmp_path):
    """SIGKILL as soon as two layers are finished; what a process reads is counted in a file."""
    out, many = tmp_path / "s.csv", 25
    table, questions = asked[0].read_text().splitlines(), tmp_path / "many.csv"
    # The same questions again and again, so that a layer takes a while.
    ids = [f"{turn}-{row}" for turn in range(many) for row in table[1:]]
    questions.write_text("\n".join([table[0], *ids]) + "\n")
    ranker = trained(deep, **OPTIONS, streamed=True)
    command = [
        sys.executable, "-c", _COUNTED, tmp_path / "reads", "submit", "--questions", questions, "--out", out,
        "--without-contexts", "--set", f"rankers=[{json.dumps(ranker)}]",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    note = tmp_path / "s.predictions" / "deep.pass" / "finished.json"
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    finished = 0
    while finished < 3:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)
        finished = json.loads(note.read_text())["finished"] if note.exists() else 0
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finished = json.loads(note.read_text())["finished"]
    assert 3 <= finished <= LAYERS, "killed half way"
    read = Questions.read(questions)
    assert validate(out, read.ids, read.options)
    (tmp_path / "reads").unlink()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    # Part n + 1 is the layer n, which is what is read behind n + 1 finished parts.
    assert [int(line) for line in (tmp_path / "reads").read_text().split()] == [*range(finished, LAYERS + 2)]
    found = Predictions.read(tmp_path / "s.predictions" / "deep.parquet").tables["deep"]
    assert found == pytest.approx(np.tile(expected, (many, 1)), abs=1e-5)
