"""Step 1: articles to shards of passages, cut at article borders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from kaggle_rag.artifacts import write_json
from kaggle_rag.errors import InputError
from kaggle_rag.retrieval.index import passages_name
from kaggle_rag.retrieval.passages import Passage, read_shard, write_shard
from wiki_index.plan import Plan

SPLIT = "split.json"


def split(plan: Plan) -> dict[str, Any]:
    """Write the passages; give the counts of articles, rows and empty articles."""
    summary = plan.work / SPLIT
    if not summary.exists():
        shards, seen, without = _split_before(plan)
        articles, empty = seen, without
        for passages, articles, empty in _shards(plan, seen, without):
            notes = {"articles": str(articles), "empty": str(empty)}
            if passages:
                write_shard(plan.work / passages_name(len(shards)), passages, notes)
                shards.append(len(passages))
        if not sum(shards):
            raise InputError("the corpus holds no text", where=plan.corpus.path)
        write_json(summary, {"articles": articles, "empty": empty, "shard_rows": shards})
    return dict(json.loads(summary.read_text(encoding="utf-8")))


def _split_before(plan: Plan) -> tuple[list[int], int, int]:
    """Rows of the shards a killed build left, and the articles and empty articles they cover."""
    rows: list[int] = []
    articles = empty = 0
    while (path := plan.work / passages_name(len(rows))).exists():
        table = read_shard(path)
        notes = table.schema.metadata
        articles, empty = int(notes[b"articles"]), int(notes[b"empty"])
        rows.append(table.num_rows)
    return rows, articles, empty


def _shards(plan: Plan, skip: int, empty: int) -> Iterator[tuple[list[Passage], int, int]]:
    """Shards of passages after the first ``skip`` articles, with the running counts behind each."""
    splitter, pending, number = plan.splitter(), [], skip - 1
    bar = tqdm(plan.corpus.articles(), desc="split", unit="article", mininterval=1)
    for number, article in enumerate(bar):
        if number < skip:
            continue
        texts = splitter(article.text)
        empty += not texts
        pending += [Passage(number, article.id, article.title, text) for text in texts]
        if len(pending) >= plan.shard_rows:
            yield pending, number + 1, empty
            pending = []
    # Without passages too: empty articles may stand behind the last full shard.
    yield pending, number + 1, empty


def shard_texts(plan: Plan, number: int) -> list[str]:
    """The texts of one shard as they are embedded."""
    return texts_of(read_shard(plan.work / passages_name(number)), plan.title_in_text)


def texts_of(table: pa.Table, with_title: bool) -> list[str]:
    texts = table["text"].to_pylist()
    if with_title:
        return [f"{title} {text}".strip() for title, text in zip(table["title"].to_pylist(), texts)]
    return list(texts)
