"""Processes are watched from outside: their memory, time and disk, and they are ended at a cap."""

import multiprocessing
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from inference.notebook.rehearsal.watch import Caps, memory, watch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from Linux's /proc")
CAPS = Caps(60, 10**9, 10**8, 10**8)


def watched(tmp_path, code, caps=CAPS):
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, start_new_session=True)
    return watch(process, caps, tmp_path / "tmp", tmp_path), process


def test_a_run_within_its_caps_is_measured(tmp_path):
    code = "x = b'x' * 200_000_000; open('file', 'wb').write(x[:3_000_000]); import time; time.sleep(1.2)"
    found, process = watched(tmp_path, code)
    assert found.ended == "" and process.returncode == 0 and found.seconds > 1.2
    assert 200e6 < found.ram < 260e6 and found.working == pytest.approx(3e6, rel=0.01)


@pytest.mark.parametrize("code, changes, ended", [
    ("import time; time.sleep(60)", {"seconds": 0.5}, "seconds"),
    ("x = b'x' * 600_000_000; import time; time.sleep(60)", {"ram": 300_000_000}, "ram"),
    ("import time; open('x', 'wb').write(b'x' * 9_000_000); time.sleep(60)", {"working": 10**6}, "working"),
    (
        "import os, time; os.mkdir('tmp'); open('tmp/file', 'wb').write(b'x' * 9_000_000); time.sleep(60)",
        {"tmp": 10**6}, "tmp",
    ),
])  # fmt: skip
def test_a_cap_ends_the_run(tmp_path, code, changes, ended):
    found, process = watched(tmp_path, code, CAPS._replace(**changes))
    assert found.ended == ended and process.returncode == -9


def test_what_was_written_last_counts_too(tmp_path):
    code = "open('x', 'wb').write(b'x' * 9_000_000)"
    found, process = watched(tmp_path, code, CAPS._replace(working=10**6))
    assert found.ended == "working" and process.returncode == 0


def test_children_are_counted_and_ended_with_it(tmp_path):
    child = "x = b'x' * 200_000_000; import time; time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    found, _ = watched(tmp_path, code, CAPS._replace(ram=150_000_000))
    assert found.ended == "ram"

    def alive():
        commands = psutil.process_iter(["cmdline", "status"])
        return [each for each in commands
                if child in (each.info["cmdline"] or []) and each.info["status"] != psutil.STATUS_ZOMBIE]

    # A process that was killed still needs a turn of its processor to end.
    deadline = time.monotonic() + 30
    while alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive()


def _hold(shared, ready, go):
    ready.set()
    go.wait(60)


def test_pages_shared_by_forks_are_counted_once_where_it_matters():
    """Four children of a process with 200 MB share them."""
    context = multiprocessing.get_context("fork")
    data, go = np.ones(25_000_000), context.Event()
    events = [context.Event() for _ in range(4)]
    children = [context.Process(target=_hold, args=(data, ready, go)) for ready in events]
    for each in children:
        each.start()
    try:
        assert all(ready.wait(30) for ready in events)
        pids = [psutil.Process().pid, *(each.pid for each in children)]
        alone = memory(pids[:1], 10**12)
        assert memory(pids, 10**12) > 4 * 200e6
        assert memory(pids, 0) == pytest.approx(alone, rel=0.3)
    finally:
        go.set()
        for each in children:
            each.join()
