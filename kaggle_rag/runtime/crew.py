"""Work spread over a Ray cluster: actors that each hold something heavy, and do one task at a time.

A task is a few numbers. Its outcome goes to its place in a folder that all nodes share; only small things
travel through Ray. A task whose actor or node is lost goes to another actor at once.

These are plain actors and `ray.wait`, not Ray Data: it assigns further tasks to every actor ahead of
time, and those of a lost node wait until Ray has given up on the node and restarted the actor
elsewhere (docs/log.md). Only numbers are moved here, so Ray Data's streaming of blocks has no benefit.

The kit and its packages must be at the same path on every node.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import logging
import os
import platform
import re
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

from kaggle_rag.runtime.cluster import LOCAL, Cluster
from kaggle_rag.runtime.console import Bar
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, KitError, as_fault

# Ray reports its use to its makers by default; the kit uses no network unless asked.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as missing:
    raise ConfigError(
        "working on a cluster needs Ray",
        where="--workers ray",
        cure='pip install "ray[data]>=2.30"   (or the kit\'s extra: distributed), or leave --workers out',
    ) from missing

# The minimum Ray allows; only numbers pass through its object store.
_STORE_BYTES = 80 << 20
# Seconds after which a cluster that does not answer counts as absent (Ray itself waits minutes).
_CONNECT = 10
# Seconds between checks for new nodes.
_LOOK = 5
# How often one task may lose its actor: more than that is the fault of the task or the kit.
_LOSSES = 4

Task = tuple[int, ...]
"""Its number, and what else the job is given; small, since it travels through Ray."""


@dataclasses.dataclass(frozen=True)
class Share:
    """The resources of one actor. All actors are alike, so that all round alike."""

    cpus: int
    gpus: int

    @classmethod
    def of(cls, device: str | None, threads: int) -> Share:
        """A GPU each if the cluster has any, else as many CPUs as this process has ``threads``."""
        nodes = _nodes()
        if device != "cpu" and any(node.get("GPU", 0) >= 1 for node in nodes):
            return cls(1, 1)
        if device not in (None, "cpu"):
            raise ConfigError(f"no {device} on this Ray cluster", where="--device", cure="leave it out")
        smallest = min((int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1), default=1)
        return cls(min(threads, smallest), 0)

    @property
    def device(self) -> str:
        """The torch device of an actor."""
        return "cuda" if self.gpus else "cpu"

    def slots(self) -> int:
        """How many such actors the live nodes have room for."""
        return sum(
            int(min(node.get("CPU", 0) // self.cpus, node.get("GPU", 0) if self.gpus else float("inf")))
            for node in _nodes()
        )


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class Job(Protocol):
    """What all actors do; it is sent to each of them, so it holds paths and settings, not what is there."""

    def open(self, share: Share) -> Callable[..., Any]:
        """Load what is heavy, on an actor; return what is called with each task's numbers there."""
        ...


class Tasks(NamedTuple):
    """``number`` tasks, taken one at a time as actors become free; ``unit`` is what messages call one."""

    each: Iterable[Task]
    number: int
    unit: str


class Worker:
    """The actor. ``token`` is a file of this run in the ``folder`` that all nodes share."""

    def __init__(self, job: Job, share: Share, token: Path) -> None:
        self._job, self._share, self._token = job, share, token

    def open(self) -> None:
        """Load everything; not in ``__init__``, whose errors Ray turns into the actor's death."""
        with _with_node_name():
            _ = self._done

    def do(self, *task: int) -> Any:
        with _with_node_name():
            return self._done(*task)

    @functools.cached_property
    def _done(self) -> Callable[..., Any]:
        if not self._token.exists():
            raise ArtifactError(
                "this node does not see the work folder",
                where=self._token.parent,
                cure="put the output on storage that every node mounts at the same path, such as NFS",
            )
        return self._job.open(self._share)


@contextlib.contextmanager
def _with_node_name() -> Iterator[None]:
    """Add the node's name to errors that the user can fix."""
    try:
        yield
    except (KitError, OSError) as error:
        fault = error if isinstance(error, KitError) else as_fault(error)
        raise type(fault)(str(fault), where=f"on node {platform.node()}") from None


def workers(cluster: Cluster, threads: int) -> int:
    """How many actors the cluster has room for now; raise ``ConfigError`` if it cannot be used."""
    with joined(cluster, threads) as crew:
        return crew.share.slots()


def check(cluster: Cluster, threads: int) -> None:
    """Reject an unusable cluster before hours of other work; a local one is started when needed."""
    if cluster.address != LOCAL:
        workers(cluster, threads)


@contextlib.contextmanager
def joined(cluster: Cluster, threads: int) -> Iterator[Crew]:
    """The cluster's actors, of so many ``threads`` each where there is no GPU.

    Raises
    ------
    ConfigError : no cluster is there, or it has no such device.
    """
    with _connected(cluster.address):
        yield Crew(Share.of(cluster.device, threads))


class Crew:
    """The actors of a cluster that is joined; ``share`` is what each of them has."""

    def __init__(self, share: Share) -> None:
        self.share = share

    def finished(self, job: Job, tasks: Tasks, folder: Path, bar: Bar) -> Iterator[tuple[Task, Any]]:
        """Do the tasks; yield each with what the job returned for it, in the order in which they end.

        Parameters
        ----------
        folder : where the outcomes go; every node must see it.
        bar : is told how many actors work.

        Raises
        ------
        KitError : raised by an actor, with the name of its node.
        ConfigError : the cluster loses the same task again and again.
        """
        # Removed like any temporary file: with the folder, or by who works there next.
        token = folder.resolve() / f".{uuid4().hex}.part"
        token.touch()
        try:
            yield from _Run(job, self.share, tasks, token, bar).finished()
        finally:
            token.unlink(missing_ok=True)


class _Run:
    """The actors of a job, and the task that each works on (``None`` while it opens the job)."""

    def __init__(self, job: Job, share: Share, tasks: Tasks, token: Path, bar: Bar) -> None:
        self._share, self._bar, self._unit = share, bar, tasks.unit
        self._tasks, self._unfinished = iter(tasks.each), tasks.number
        self._lost: deque[Task] = deque()
        self._busy: dict[Any, tuple[Any, Task | None]] = {}
        self._losses: Counter[Task | None] = Counter()
        self._given = job, share, token
        self._actor = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=0)(Worker)

    def finished(self) -> Iterator[tuple[Task, Any]]:
        while self._unfinished:
            self._start_actors()
            done, _ = ray.wait(list(self._busy), timeout=_LOOK)
            for ref in done:
                actor, task = self._busy.pop(ref)
                try:
                    result = ray.get(ref)
                except RayTaskError as error:
                    raise (error.cause if isinstance(error.cause, (KitError, OSError)) else error) from None
                except RayError as error:
                    ray.kill(actor)
                    self._note_loss(task, error)
                    continue
                if task is not None:
                    self._unfinished -= 1
                    yield task, result
                self._assign_next(actor)
                self._losses.pop(None, None)

    def _in_progress(self) -> int:
        return sum(task is not None for _, task in self._busy.values())

    def _start_actors(self) -> None:
        """Start an actor for each slot of the cluster; one even if it has none, for autoscalers."""
        while len(self._busy) < min(max(1, self._share.slots()), self._unfinished):
            actor = self._actor.remote(*self._given)
            self._busy[actor.open.remote()] = actor, None
        self._bar.set_postfix_str(f"{self._in_progress()} Ray workers")

    def _assign_next(self, actor: Any) -> None:
        """Assign the next task; without one, the actor is dropped, and Ray reclaims its slot."""
        task = self._lost.popleft() if self._lost else next(self._tasks, None)
        if task is not None:
            self._busy[actor.do.remote(*task)] = actor, task

    def _note_loss(self, task: Task | None, error: RayError) -> None:
        """Take back the task of a lost actor, for the next one that is free."""
        self._losses[task] += 1
        if self._losses[task] > _LOSSES:
            raise ConfigError(
                f"Ray workers keep dying {f'at {self._unit} {task[0]}' if task else 'at startup'} "
                f"({_line(error, -1)})",
                where="--workers ray",
                expected="nodes with the kit and its packages at the same path, and memory for each worker",
                cure="see the nodes' logs (/tmp/ray/session_latest/logs), or leave --workers out",
            )
        if task is not None:
            self._lost.append(task)


def _line(error: BaseException, number: int) -> str:
    """One line of Ray's many: the first says most for its own errors, the last for a dead actor's."""
    return (str(error).strip() or type(error).__name__).splitlines()[number].strip()


@contextlib.contextmanager
def _connected(address: str) -> Iterator[None]:
    """Connect as a driver to the cluster, or to one started here, silently."""
    _require_reachable(address)
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    # Whatever the settings, Ray prints a lost node's last log lines to stdout.
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, SystemExit) as error:
            raise _no_cluster(address, _line(error, 0)) from error
        try:
            yield
        finally:
            ray.shutdown()


def _require_reachable(address: str) -> None:
    """Try the port first: Ray would retry a wrong address for two minutes."""
    if address in (LOCAL, "auto"):
        return
    if not (match := re.fullmatch(r"\[?([^/]+?)\]?:(\d{1,5})", address)):
        raise _no_cluster(address, "not the address of a cluster")
    try:
        socket.create_connection((match[1], int(match[2])), timeout=_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, reason: str) -> ConfigError:
    return ConfigError(
        f"no Ray cluster at {address!r} ({reason})",
        where="--ray-address",
        expected="auto, or host:port of a cluster started by `ray start --head`, of the same Ray and Python",
        cure="start one, or leave --ray-address out to start a local one",
    )
