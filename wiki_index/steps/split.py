"""Step 1: articles to shards of passages, cut at article borders."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from kaggle_rag.index.index import passages_name
from kaggle_rag.index.passages import Passage, read_shard, write_shard
from kaggle_rag.runtime.console import progress
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.files import write_json
from wiki_index.corpus import Skip
from wiki_index.plan import Plan
from wiki_index.progress import Seen, of_another_version

SPLIT = "split.json"
_COUNTS = ("articles", "skipped", "left_out", "shard_rows")


def split(plan: Plan) -> dict[str, Any]:
    """Write the passages; return the counts of articles, rows and what was skipped and left out.

    Raises
    ------
    ArtifactError : another version of the kit started the build.
    InputError : the corpus cannot be read or holds no text.
    """
    summary = plan.work / SPLIT
    if not summary.exists():
        shards, seen = _split_before(plan)
        for passages in _shards(plan, seen):
            if passages:
                write_shard(plan.work / passages_name(len(shards)), passages, seen.notes())
                shards.append(len(passages))
        if not sum(shards):
            raise InputError(
                "the corpus holds no text", where=plan.corpus.path,
                expected="articles with a sentence of at least two words",
                cure="see what is left out: python -m wiki_index check --corpus CORPUS",
            )  # fmt: skip
        skipped, left_out = (dict(sorted(counts.items())) for counts in (seen.skipped, seen.left_out))
        write_json(summary, dict(zip(_COUNTS, (seen.articles, skipped, left_out, shards))))
    counts = dict(json.loads(summary.read_text(encoding="utf-8")))
    if set(counts) != set(_COUNTS):
        raise of_another_version(plan.work)
    return counts


def _split_before(plan: Plan) -> tuple[list[int], Seen]:
    """Rows of the shards a killed build left, and the part of the corpus they cover."""
    rows: list[int] = []
    seen = Seen()
    while (path := plan.work / passages_name(len(rows))).exists():
        table = read_shard(path)
        seen = Seen.of_notes(table.schema.metadata, plan.work)
        rows.append(table.num_rows)
    return rows, seen


def _shards(plan: Plan, seen: Seen) -> Iterator[list[Passage]]:
    """Shards of passages after what was seen; ``seen`` is updated with what each of them covers."""
    splitter = plan.splitter()
    pending: list[Passage] = []
    before = seen.records
    with progress(plan.corpus.size, "split", "B", unit_scale=True, mininterval=1) as bar:
        for page in plan.corpus.pages(bar.update):
            if page.number < before:
                continue
            if plan.limit and seen.articles >= plan.limit:
                break
            article = page.article()
            seen.records += 1
            if isinstance(article, Skip):
                seen.skip(article.reason)
                continue
            left_out = Counter(article.left_out)
            texts = splitter(article.text, article.is_rendered, left_out)
            seen.leave_out(left_out)
            pending += [Passage(seen.articles, article.id, article.title, text) for text in texts]
            seen.articles += 1
            if not texts:
                seen.skip("empty")
            if len(pending) >= plan.shard_rows:
                yield pending
                pending = []
    # Even without passages: pages that hold none may follow the last full shard.
    yield pending


def shard_texts(plan: Plan, number: int) -> list[str]:
    """The texts of one shard as embedded."""
    return texts_of(read_shard(plan.work / passages_name(number)), plan.title_in_text)


def texts_of(table: pa.Table, with_title: bool) -> list[str]:
    texts = table["text"].to_pylist()
    if with_title:
        return [f"{title} {text}".strip() for title, text in zip(table["title"].to_pylist(), texts)]
    return list(texts)
