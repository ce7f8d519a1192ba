"""A Ray cluster of two local nodes, one of which can be killed in the midst of its work."""

import os
import subprocess
import sys
import time
from typing import NamedTuple

import psutil
import pytest
from conftest import ROOT

needs_loopback = pytest.mark.skipif(
    not any(stats.isup for name, stats in psutil.net_if_stats().items() if name.startswith("lo")),
    reason="Ray's processes talk over the loopback interface, which is down here: ip link set lo up",
)

# Of the lines on stdin, "kill" kills the last node without a farewell, and "add" adds one.
_CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster()
nodes = []
def add():
    nodes.append(cluster.add_node(num_cpus=1, include_dashboard=False, object_store_memory=80 << 20))
add(), add()
print(cluster.address, flush=True)
for line in sys.stdin:
    add() if line == "add\\n" else cluster.remove_node(nodes.pop(), allow_graceful=False)
    print("done", flush=True)
cluster.shutdown()
"""

# Every Python of the cluster begins with this. A worker stops at its first task behind some number until
# the gate is open, so that what is done to it is done in the midst of its work.
_GATE = """
import os, sys, threading, time
from pathlib import Path
gate = Path(__file__).parent
module, kind, method, beyond = {0!r}, {1!r}, {2!r}, {3!r}

def keep():
    while not hasattr(sys.modules.get(module), kind):
        time.sleep(0.001)
    gated = getattr(sys.modules[module], kind)
    own = getattr(gated, method)
    def held(self, number, *more):
        if number > beyond and not (gate / "open").exists():
            (gate / f"here-{{os.getpid()}}").touch()
            while not (gate / "open").exists():
                time.sleep(0.01)
        return own(self, number, *more)
    setattr(gated, method, held)

threading.Thread(target=keep, daemon=True).start()
"""


class Gate(NamedTuple):
    """The method, of a task's number, at which a worker is held for numbers ``beyond`` one."""

    module: str
    kind: str
    method: str
    beyond: int


class LocalCluster:
    """Two nodes of one CPU each; the suite's own process opens no socket."""

    def __init__(self, log, gate):
        self._gate = log.parent
        (self._gate / "sitecustomize.py").write_text(_GATE.format(*gate))
        self.let_go()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CLUSTER], cwd=log.parent, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("w"),
            env={**os.environ, "PYTHONPATH": str(self._gate)},
        )  # fmt: skip
        self.address = self._process.stdout.readline().strip()
        assert self.address, log.read_text()

    def hold(self):
        (self._gate / "open").unlink()
        for mark in self._gate.glob("here-*"):
            mark.unlink()

    def held(self):
        """How many workers wait in the midst of their work."""
        return len(list(self._gate.glob("here-*")))

    def let_go(self):
        (self._gate / "open").touch()

    def kill_a_node(self):
        self._do("kill")

    def add_a_node(self):
        self._do("add")

    def _do(self, what):
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=600)


class Program:
    """A Python in a process of its own, in another folder than the cluster's."""

    def __init__(self, log, *words):
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, *map(str, words)], cwd=ROOT, stdout=log.open("w"), stderr=subprocess.STDOUT
        )

    def until(self, seen):
        while not seen():
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.01)

    def end(self):
        """Its exit code, and what it said."""
        return self.process.wait(timeout=900), self.log.read_text()
