"""Encoding distributed over a Ray cluster: actors that hold the encoder, each on one shard at a time.

An actor writes a shard's vectors to their place in the file that all nodes share; only the shard's
number goes back to the driver, which records it as finished. A shard whose actor or node is lost goes
to another actor at once.

These are plain actors and `ray.wait`, not Ray Data: it assigns further shards to every actor ahead of
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
        "distributed encoding needs Ray",
        where="--workers ray",
        cure='pip install "ray[data]>=2.30"   (or the kit\'s extra: distributed), or leave --workers out',
    ) from missing

# The minimum Ray allows; only numbers pass through its object store.
_STORE_BYTES = 80 << 20
# Seconds after which a cluster that does not answer counts as absent (Ray itself waits minutes).
_CONNECT = 10
# Seconds between checks for new nodes.
_LOOK = 5
# How often one shard may lose its actor: more than that is the fault of the shard or the kit.
_LOSSES = 4


@dataclasses.dataclass(frozen=True)
class Share:
    """The resources of one actor. All actors are alike, so that all round alike."""

    cpus: int
    gpus: int

    @classmethod
    def of(cls, device: str | None) -> Share:
        """A GPU each if the cluster has any, else as many threads as torch uses here."""
        nodes = _nodes()
        if device != "cpu" and any(node.get("GPU", 0) >= 1 for node in nodes):
            return cls(1, 1)
        if device not in (None, "cpu"):
            raise ConfigError(f"no {device} on this Ray cluster", where="--device", cure="leave it out")
        smallest = min((int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1), default=1)
        return cls(min(torch.get_num_threads(), smallest), 0)

    def slots(self) -> int:
        """How many such actors the live nodes have room for."""
        return sum(
            int(min(node.get("CPU", 0) // self.cpus, node.get("GPU", 0) if self.gpus else float("inf")))
            for node in _nodes()
        )


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def workers(cluster: Cluster) -> int:
    """How many actors the cluster has room for now; raise ``ConfigError`` if it cannot be used."""
    with _joined(cluster.address):
        return Share.of(cluster.device).slots()


def check(cluster: Cluster) -> None:
    """Reject an unusable cluster before hours of splitting; a local one is started when needed."""
    if cluster.address != LOCAL:
        workers(cluster)


@dataclasses.dataclass(frozen=True)
class EncodeJob:
    """What an actor needs to know.

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
        """Load everything; not in ``__init__``, whose errors Ray turns into the actor's death."""
        with _with_node_name():
            _ = self._shards

    def encode(self, number: int, start: int) -> None:
        with _with_node_name():
            self._shards.write(number, start)

    @functools.cached_property
    def _shards(self) -> ShardEncoder:
        job = self._job
        if not job.token.exists():
            raise ArtifactError(
                "this node does not see the work folder of the build",
                where=job.plan.work,
                cure="put OUT on storage that every node mounts at the same path, such as NFS",
            )
        torch.set_num_threads(job.share.cpus)
        device = "cuda" if job.share.gpus else "cpu"
        encoder = Encoder.of_index(job.card, name=job.checkpoint, device=device)
        plan = dataclasses.replace(job.plan, encoders={job.name: encoder})
        writer = VectorWriter(plan.dense(job.name) / VECTORS_FILE, job.layout, shared=True)
        # The driver's bar counts whole shards, so that a lost one is not counted twice.
        return ShardEncoder(plan, job.name, writer, on_rows=lambda rows: None)


@contextlib.contextmanager
def _with_node_name() -> Iterator[None]:
    """Add the node's name to errors that the user can fix."""
    try:
        yield
    except KitError as error:
        raise type(error)(str(error), where=f"on node {platform.node()}") from None


def spread(
    plan: Plan, name: str, layout: VectorLayout, starts: Sequence[int], todo: list[int], bar: Bar
) -> Iterator[int]:
    """Encode the shards ``todo``; yield the number of each once its vectors are on disk.

    Raises
    ------
    KitError : raised by an actor, with the name of its node.
    ConfigError : the cluster cannot be used, or loses the same shard again and again.
    """
    cluster, encoder = plan.cluster or Cluster(), plan.encoders[name]
    # Removed like any temporary file: by the next build, if this one is killed.
    token = plan.work / f".{uuid4().hex}.part"
    token.touch()
    try:
        with _joined(cluster.address):
            bare = dataclasses.replace(plan, encoders={}, reuse=plan.reuse and plan.reuse.resolve())
            share = Share.of(cluster.device)
            job = EncodeJob(bare, name, encoder.card, _absolute(encoder.card.name), layout, token, share)
            for number in _Crew(job, starts, todo, bar).finished():
                bar.update(int(starts[number + 1] - starts[number]))
                yield number
    finally:
        token.unlink(missing_ok=True)


def _absolute(name: str) -> str:
    """A folder by its absolute path, since actors have another working directory."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


class _Crew:
    """The actors, and the shard that each works on (``None`` while it loads the encoder)."""

    def __init__(self, job: EncodeJob, starts: Sequence[int], todo: list[int], bar: Bar) -> None:
        self._job, self._starts, self._bar = job, starts, bar
        self._queue = deque(todo)
        self._busy: dict[Any, tuple[Any, int | None]] = {}
        self._losses: Counter[int | None] = Counter()
        share = job.share
        self._actor = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=0)(Worker)

    def finished(self) -> Iterator[int]:
        while self._unfinished():
            self._start_actors()
            done, _ = ray.wait(list(self._busy), timeout=_LOOK)
            for ref in done:
                actor, number = self._busy.pop(ref)
                try:
                    ray.get(ref)
                except RayTaskError as error:
                    raise (error.cause if isinstance(error.cause, (KitError, OSError)) else error) from None
                except RayError as error:
                    ray.kill(actor)
                    self._requeue(number, error)
                    continue
                if number is not None:
                    yield number
                self._assign_next(actor)
                self._losses.pop(None, None)

    def _unfinished(self) -> int:
        """Shards that are not on disk yet."""
        return len(self._queue) + self._in_progress()

    def _in_progress(self) -> int:
        return sum(number is not None for _, number in self._busy.values())

    def _start_actors(self) -> None:
        """Start an actor for each slot of the cluster; one even if it has none, for autoscalers."""
        while len(self._busy) < min(max(1, self._job.share.slots()), self._unfinished()):
            actor = self._actor.remote(self._job)
            self._busy[actor.open.remote()] = actor, None
        self._bar.set_postfix_str(f"{self._in_progress()} Ray workers")

    def _assign_next(self, actor: Any) -> None:
        """Assign the next shard; without one, the actor is dropped, and Ray reclaims its slot."""
        if self._queue:
            number = self._queue.popleft()
            self._busy[actor.encode.remote(number, int(self._starts[number]))] = actor, number

    def _requeue(self, number: int | None, error: RayError) -> None:
        """Requeue the shard of a lost actor."""
        self._losses[number] += 1
        if self._losses[number] > _LOSSES:
            raise ConfigError(
                f"Ray workers keep dying {'at shard ' + str(number) if number is not None else 'at startup'} "
                f"({_line(error, -1)})",
                where="--workers ray",
                expected="nodes with the kit and its packages at the same path, and 1 GB per worker",
                cure="see the nodes' logs (/tmp/ray/session_latest/logs), or leave --workers out",
            )
        if number is not None:
            self._queue.appendleft(number)


def _line(error: BaseException, number: int) -> str:
    """One line of Ray's many: the first says most for its own errors, the last for a dead actor's."""
    return (str(error).strip() or type(error).__name__).splitlines()[number].strip()


@contextlib.contextmanager
def _joined(address: str) -> Iterator[None]:
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
