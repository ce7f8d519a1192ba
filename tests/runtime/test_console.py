"""A bar for a terminal, lines for a log."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import types

import pytest

from kaggle_rag.runtime import console as made


class Log(io.StringIO):
    def isatty(self):
        return False


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    # tqdm asks this function for the time when a bar is made.
    monkeypatch.setattr("tqdm.std.tqdm._time", staticmethod(lambda: now[0]), raising=False)
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def worked(clock, seconds, total=100, **options):
    """What a log holds of a work of ``total`` units that takes so long."""
    log = Log()
    with made.Lines(total=total, desc="encode", unit="text", file=log, **options) as bar:
        for _ in range(total):
            clock[0] += seconds / total
            bar.update(1)
    return log.getvalue()


def test_long_work_has_a_line_every_ten_seconds_with_the_time_left(clock):
    lines = worked(clock, 50).splitlines()
    assert len(lines) == 5
    assert lines[0] == "encode: 20%, 20 of 100 texts, 00:10 so far, about 00:40 to go"
    assert lines[-1] == "encode: 100%, 100 of 100 texts, 00:50 so far"


def test_short_work_has_no_line(clock):
    assert worked(clock, 9) == ""


def test_a_hundred_thousand_updates_are_no_more_lines(clock):
    told = worked(clock, 25, total=100_000)
    assert len(told.splitlines()) == 3 and "\r" not in told and len(told) < 400


def test_what_was_there_already_does_not_count_for_the_pace(clock):
    log = Log()
    with made.Lines(total=100, initial=80, desc="encode", unit="text", file=log) as bar:
        clock[0] += 10
        bar.update(10)
    assert log.getvalue() == "encode: 90%, 90 of 100 texts, 00:10 so far, about 00:10 to go\n"


def test_bytes_and_works_of_unknown_length(clock):
    log = Log()
    with made.Lines(total=3e9, desc="split", unit="B", unit_scale=True, file=log) as bar:
        clock[0] += 10
        bar.update(1_500_000_000)
    assert log.getvalue() == "split: 50%, 1.50GB of 3.00GB, 00:10 so far, about 00:10 to go\n"
    log = Log()
    for _ in made.Lines(iter(range(3)), desc="dry run", unit="article", file=log):
        clock[0] += 10
    assert log.getvalue().splitlines()[0] == "dry run: 1 article, 00:10 so far"


def test_a_work_that_is_not_shown_prints_nothing(clock):
    assert worked(clock, 50, disable=True) == ""


def test_training_has_lines_of_its_steps_where_nobody_watches(clock, capsys):
    from training.loop.trainer import Progress

    state = types.SimpleNamespace(global_step=0, max_steps=30, is_world_process_zero=True)
    shown = Progress(print)
    shown.on_train_begin(None, state, None)
    for state.global_step in range(1, 31):
        clock[0] += 1
        if state.global_step % 15 == 0:
            shown.on_log(None, state, None, logs={"loss": 9 / state.global_step})
        shown.on_step_end(None, state, None)
    shown.on_evaluate(None, state, None, metrics={"eval_ndcg@10": 0.5, "eval_runtime": 1})
    shown.on_train_end(None, state, None)
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "train: 33%, 10 of 30 steps, 00:10 so far, about 00:20 to go",
        "train: 67%, 20 of 30 steps, loss 0.6000, 00:20 so far, about 00:10 to go",
        "train: 100%, 30 of 30 steps, loss 0.3000, 00:30 so far",
    ]
    assert told.out == "step 30: loss 0.3000, ndcg@10 0.5000\n"


SHOW = """
import time
from kaggle_rag.runtime.console import over, progress
with progress(3, "encode", "text", mininterval=0) as bar:
    for _ in over(range(3), "inner", "text"):
        bar.update(1)
"""


def test_a_terminal_has_bars_and_a_pipe_has_none():
    def run(stderr):
        return subprocess.run([sys.executable, "-c", SHOW], stderr=stderr, check=True)

    assert run(subprocess.PIPE).stderr == b""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    run(terminal)
    os.close(terminal)
    told = os.read(controller, 10_000).decode()
    os.close(controller)
    assert "encode: 100%" in told and "\r" in told


def test_every_bar_of_the_kit_is_made_here(request):
    root = request.config.rootpath
    folders = ("kaggle_rag", "inference", "training", "wiki_index")
    files = [path for folder in folders for path in (root / folder).rglob("*.py")]
    users = {path.name for path in files if re.search(r"^\s*(from|import) tqdm", path.read_text(), re.M)}
    assert len(files) > 50 and users == {"console.py"}
