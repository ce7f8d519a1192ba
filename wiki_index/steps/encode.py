"""Step 2: passages to vectors, shard by shard, each text once, except those that an older index holds."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Generator, Sequence

from kaggle_rag.index.dense import VECTORS_FILE
from kaggle_rag.index.vectors import VectorLayout, VectorWriter, calibrated_step
from kaggle_rag.runtime.console import Bar, progress
from kaggle_rag.runtime.files import whole_file, write_json
from wiki_index.plan import Plan
from wiki_index.steps.shard_encoder import ShardEncoder, older
from wiki_index.steps.split import shard_texts

# One empty file per shard on disk; the vectors themselves do not show which are missing.
ENCODED = "encoded"
CALIBRATION = "calibration.json"
# Number of passages that calibrate the int8 levels: the first of the corpus, so a kill changes nothing.
_CALIBRATED_BY = 2_048


def encode(plan: Plan, name: str, layout: VectorLayout, shard_rows: Sequence[int]) -> None:
    """Write the vectors of one dense retriever; shards that a killed build finished are skipped."""
    marks = [plan.dense(name) / ENCODED / f"{number:05d}" for number in range(len(shard_rows))]
    starts = [0, *itertools.accumulate(shard_rows)]
    todo = [number for number, mark in enumerate(marks) if not mark.exists()]
    done = starts[-1] - sum(shard_rows[number] for number in todo)
    writer = VectorWriter(plan.dense(name) / VECTORS_FILE, layout)
    with (
        progress(starts[-1], "encode", "passage", initial=done, smoothing=0.05) as bar,
        contextlib.closing(_finished(plan, name, writer, starts, todo, bar)) as finished,
    ):
        for number in finished:
            with whole_file(marks[number]) as aside:
                aside.touch()
    writer.close()


def _finished(
    plan: Plan, name: str, writer: VectorWriter, starts: Sequence[int], todo: list[int], bar: Bar
) -> Generator[int, None, None]:
    """Encode the shards ``todo``, here or on a cluster; yield the number of each once it is on disk."""
    if not todo:
        return
    if plan.cluster:
        from wiki_index.steps.ray_encode import spread

        yield from spread(plan, name, writer.layout, starts, todo, bar)
        return
    shards = ShardEncoder(plan, name, writer, bar.update)
    for number in todo:
        shards.write(number, starts[number])
        yield number


def layout_of(plan: Plan, name: str, precision: str, rows: int) -> VectorLayout:
    """The layout of one retriever's vectors; int8 levels are measured once and stored."""
    dim, step = plan.encoders[name].card.dim, 0.0
    if precision == "int8":
        path = plan.dense(name) / CALIBRATION
        if not path.exists():
            write_json(path, {"step": _step(plan, name)})
        step = float(json.loads(path.read_text(encoding="utf-8"))["step"])
    return VectorLayout(rows, dim, precision, step)


def _step(plan: Plan, name: str) -> float:
    """The int8 step: that of the reused vectors, or one measured on the first passages."""
    if reused := older(plan, name, "int8"):
        card = reused[0].dense[reused[1]].card
        if card.vectors == "int8":
            return card.step
    sample = shard_texts(plan, 0)[:_CALIBRATED_BY]
    return calibrated_step(plan.encoders[name].encode_for_index(sample))


