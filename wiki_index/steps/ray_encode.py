"""Encoding spread over a Ray cluster: actors that hold the encoder, each at one shard at a time.

An actor writes a shard's vectors to their place in the file that all nodes share; only the shard's
number goes back to the driver, which keeps the marks. A shard whose actor or node is lost goes to
another actor at once.

These are plain actors and `ray.wait`, not Ray Data: that binds further shards to every actor ahead
of time, and those of a lost node wait until Ray has given the node up and found the actor a new
place (docs/log.md). Only numbers are moved here, so Ray Data's streaming of blocks serves nothing.

The kit and its packages must lie at the same path on every node.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from kaggle_rag.index.dense import VECTORS_FILE
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.manifest import EncoderCard
from kaggle_rag.index.vectors import VectorLayout, VectorWriter
from kaggle_rag.runtime.console import Bar
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, KitError
from wiki_index.plan import LOCAL, Cluster, Plan
from wiki_index.steps.shard_encoder import ShardEncoder

# Ray reports its use to its makers by default; the kit uses no network unless asked.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as missing:
    raise ConfigError(
        "spreading the encoding needs Ray",
        where="--workers ray",
        cure='pip install "ray[data]>=2.30"   (or the kit\'s extra: distributed), or leave --workers out',
    ) from missing

# Least size Ray allows; nothing but numbers passes through its object store.
_STORE_BYTES = 80 << 20
# Seconds after which a cluster that does not answer is taken for absent (Ray itself waits minutes).
_CONNECT = 10
# Seconds between two looks for nodes that have come.
_LOOK = 5
# How often one shard may lose its actor: more is no accident of a node but the shard's or the kit's.
_LOSSES = 4


@dataclasses.dataclass(frozen=True)
class Share:
    """What one actor takes of a node. All actors are alike, so that all round alike."""

    cpus: int
    gpus: int

    @classmethod
    def of(cls, device: str | None) -> Share:
        """A GPU each where the cluster has some, else as many threads as torch takes here."""
        nodes = _nodes()
        if device != "cpu" and any(node.get("GPU", 0) >= 1 for node in nodes):
            return cls(1, 1)
        if device not in (None, "cpu"):
            raise ConfigError(f"no {device} on this Ray cluster", where="--device", cure="leave it out")
        smallest = min((int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1), default=1)
        return cls(min(torch.get_num_threads(), smallest), 0)

    def places(self) -> int:
        """How many such actors the nodes that are alive have room for."""
        return sum(
            int(min(node.get("CPU", 0) // self.cpus, node.get("GPU", 0) if self.gpus else float("inf")))
            for node in _nodes()
        )


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def workers(cluster: Cluster) -> int:
    """How many actors the cluster has room for now; raise ``ConfigError`` where it cannot be used."""
    with _joined(cluster.address):
        return Share.of(cluster.device).places()


def check(cluster: Cluster) -> None:
    """Refuse a cluster before hours of splitting; a local one is started when it is needed."""
    if cluster.address != LOCAL:
        workers(cluster)


@dataclasses.dataclass(frozen=True)
class EncodeJob:
    """What an actor is told.

    ``plan`` has no encoder; ``checkpoint`` is a folder or a name that each node resolves, ``card``
    says which weights it must find there. ``token`` is a file of this run in the work folder.
    """

    plan: Plan
    name: str
    card: EncoderCard
    checkpoint: str
    layout: VectorLayout
    token: Path
    share: Share


class Worker:
    """The actor."""

    def __init__(self, job: EncodeJob) -> None:
        self._job = job

    def open(self) -> None:
        """Load everything; apart from ``__init__``, whose errors Ray turns into the actor's death."""
        with _told_where():
            _ = self._shards

    def encode(self, number: int, start: int) -> None:
        with _told_where():
            self._shards.write(number, start)

    @functools.cached_property
    def _shards(self) -> ShardEncoder:
        job = self._job
        if not job.token.exists():
            raise ArtifactError(
                "this node does not see the work folder of the build",
                where=job.plan.work,
                cure="put OUT on storage that every node mounts at the same path (NFS, say)",
            )
        torch.set_num_threads(job.share.cpus)
        device = "cuda" if job.share.gpus else "cpu"
        encoder = Encoder.of_index(job.card, name=job.checkpoint, device=device)
        plan = dataclasses.replace(job.plan, encoders={job.name: encoder})
        writer = VectorWriter(plan.dense(job.name) / VECTORS_FILE, job.layout, shared=True)
        # The driver's bar counts shards: what came of a lost one is not heard twice.
        return ShardEncoder(plan, job.name, writer, on_rows=lambda rows: None)


@contextlib.contextmanager
def _told_where() -> Iterator[None]:
    """Put the node's name before what the user can mend."""
    try:
        yield
    except KitError as error:
        raise type(error)(str(error), where=f"on node {platform.node()}") from None


def spread(
    plan: Plan, name: str, layout: VectorLayout, starts: Sequence[int], todo: list[int], bar: Bar
) -> Iterator[int]:
    """Encode the shards ``todo``; give the number of each when its vectors are on disk.

    Raises
    ------
    KitError : what an actor raised, with the name of its node.
    ConfigError : the cluster cannot be used, or loses the same shard again and again.
    """
    cluster, encoder = plan.cluster or Cluster(), plan.encoders[name]
    # Removed like every file left aside, also by the next build where this one is killed.
    token = plan.work / f".{uuid4().hex}.part"
    token.touch()
    try:
        with _joined(cluster.address):
            bare = dataclasses.replace(plan, encoders={}, reuse=plan.reuse and plan.reuse.resolve())
            share = Share.of(cluster.device)
            job = EncodeJob(
                bare, name, encoder.card, _found_anywhere(encoder.card.name), layout, token, share
            )
            for number in _Crew(job, starts, todo, bar).finished():
                bar.update(int(starts[number + 1] - starts[number]))
                yield number
    finally:
        token.unlink(missing_ok=True)


def _found_anywhere(name: str) -> str:
    """A folder by its whole path, since actors do not run in this one."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


class _Crew:
    """The actors, and the shard that each is at (``None`` while it loads the encoder)."""

    def __init__(self, job: EncodeJob, starts: Sequence[int], todo: list[int], bar: Bar) -> None:
        self._job, self._starts, self._bar = job, starts, bar
        self._queue = deque(todo)
        self._busy: dict[Any, tuple[Any, int | None]] = {}
        self._losses: Counter[int | None] = Counter()
        share = job.share
        self._actor = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=0)(Worker)

    def finished(self) -> Iterator[int]:
        while self._left():
            self._hire()
            done, _ = ray.wait(list(self._busy), timeout=_LOOK)
            for ref in done:
                actor, number = self._busy.pop(ref)
                try:
                    ray.get(ref)
                except RayTaskError as error:
                    raise (error.cause if isinstance(error.cause, (KitError, OSError)) else error) from None
                except RayError as error:
                    ray.kill(actor)
                    self._lost(number, error)
                    continue
                if number is not None:
                    yield number
                self._give(actor)
                self._losses.pop(None, None)

    def _left(self) -> int:
        """Shards that are not on disk yet."""
        return len(self._queue) + self._at_work()

    def _at_work(self) -> int:
        return sum(number is not None for _, number in self._busy.values())

    def _hire(self) -> None:
        """An actor for each place of the cluster; one even where it has none, for autoscalers."""
        while len(self._busy) < min(max(1, self._job.share.places()), self._left()):
            actor = self._actor.remote(self._job)
            self._busy[actor.open.remote()] = actor, None
        self._bar.set_postfix_str(f"{self._at_work()} Ray workers")

    def _give(self, actor: Any) -> None:
        """The next shard; where there is none, the actor is forgotten, and Ray takes its place back."""
        if self._queue:
            number = self._queue.popleft()
            self._busy[actor.encode.remote(number, int(self._starts[number]))] = actor, number

    def _lost(self, number: int | None, error: RayError) -> None:
        """Line up again what a lost actor was at."""
        self._losses[number] += 1
        if self._losses[number] > _LOSSES:
            raise ConfigError(
                f"Ray workers die {'at shard ' + str(number) if number is not None else 'as they start'} "
                f"again and again ({_line(error, -1)})",
                where="--workers ray",
                expected="nodes with the kit and its packages at the same path, and 1 GB for each worker",
                cure="see the nodes' logs (/tmp/ray/session_latest/logs), or leave --workers out",
            )
        if number is not None:
            self._queue.appendleft(number)


def _line(error: BaseException, number: int) -> str:
    """One line of Ray's many: of its own errors the first tells most, of a dead actor's the last."""
    return (str(error).strip() or type(error).__name__).splitlines()[number].strip()


@contextlib.contextmanager
def _joined(address: str) -> Iterator[None]:
    """Be a driver of the cluster, or of one started here, silently."""
    _refuse(address)
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    # Whatever is set, Ray prints a lost node's last log lines to stdout.
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, SystemExit) as error:
            raise _no_cluster(address, _line(error, 0)) from error
        try:
            yield
        finally:
            ray.shutdown()


def _refuse(address: str) -> None:
    """Ask for the port ourselves: Ray would try a wrong address for two minutes."""
    if address in (LOCAL, "auto"):
        return
    if not (found := re.fullmatch(r"\[?([^/]+?)\]?:(\d{1,5})", address)):
        raise _no_cluster(address, "that is no address of a cluster")
    try:
        socket.create_connection((found[1], int(found[2])), timeout=_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, reason: str) -> ConfigError:
    return ConfigError(
        f"no Ray cluster at {address!r} ({reason})",
        where="--ray-address",
        expected="auto, or host:port of a cluster that `ray start --head` began, of the same Ray and Python",
        cure="start one, or leave --ray-address out: a local one is started",
    )
