"""Encoding distributed over a Ray cluster: actors that hold the encoder, each on one shard at a time.

An actor writes a shard's vectors to their place in the file that all nodes share; only the shard's
number goes back to the driver, which records it as finished.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from kaggle_rag.index.dense import VECTORS_FILE
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.manifest import EncoderCard
from kaggle_rag.index.vectors import VectorLayout, VectorWriter
from kaggle_rag.runtime import crew
from kaggle_rag.runtime.cluster import Cluster
from kaggle_rag.runtime.console import Bar
from wiki_index.plan import Plan
from wiki_index.steps.shard_encoder import ShardEncoder


def workers(cluster: Cluster) -> int:
    """How many actors the cluster has room for now; raise ``ConfigError`` if it cannot be used."""
    return crew.workers(cluster, torch.get_num_threads())


def check(cluster: Cluster) -> None:
    """Reject an unusable cluster before hours of splitting; a local one is started when needed."""
    crew.check(cluster, torch.get_num_threads())


@dataclasses.dataclass(frozen=True)
class EncodeJob:
    """What an actor needs to know.

    ``plan`` has no encoder; ``checkpoint`` is a folder or a name that each node resolves, ``card``
    says which weights it must find there.
    """

    plan: Plan
    name: str
    card: EncoderCard
    checkpoint: str
    layout: VectorLayout

    def open(self, share: crew.Share) -> Callable[[int, int], None]:
        """Load the encoder; what is returned takes a shard's number and its first row."""
        torch.set_num_threads(share.cpus)
        encoder = Encoder.of_index(self.card, name=self.checkpoint, device=share.device)
        plan = dataclasses.replace(self.plan, encoders={self.name: encoder})
        writer = VectorWriter(plan.dense(self.name) / VECTORS_FILE, self.layout, shared=True)
        # The driver's bar counts whole shards, so that a lost one is not counted twice.
        return ShardEncoder(plan, self.name, writer, on_rows=lambda rows: None).write


def spread(
    plan: Plan, name: str, layout: VectorLayout, starts: Sequence[int], todo: list[int], bar: Bar
) -> Iterator[int]:
    """Encode the shards ``todo``; yield the number of each once its vectors are on disk.

    Raises
    ------
    KitError : see `kaggle_rag.runtime.crew.Crew.finished`.
    """
    encoder = plan.encoders[name]
    with crew.joined(plan.cluster or Cluster(), torch.get_num_threads()) as joined:
        bare = dataclasses.replace(plan, encoders={}, reuse=plan.reuse and plan.reuse.resolve())
        job = EncodeJob(bare, name, encoder.card, _absolute(encoder.card.name), layout)
        tasks = crew.Tasks(((number, int(starts[number])) for number in todo), len(todo), "shard")
        for (number, start), _ in joined.finished(job, tasks, plan.work, bar):
            bar.update(int(starts[number + 1]) - start)
            yield number


def _absolute(name: str) -> str:
    """A folder by its absolute path, since actors have another working directory."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name
