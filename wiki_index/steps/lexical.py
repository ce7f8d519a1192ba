"""Step 5: passages to BM25 parts, each written to a temporary folder and renamed once it is complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

from kaggle_rag.index.index import LEXICAL
from kaggle_rag.index.lexical import PART_ROWS, part_name, write_part
from kaggle_rag.runtime.console import progress
from wiki_index.plan import Plan
from wiki_index.steps.split import shard_texts


def lexical_rows(shard_rows: Sequence[int]) -> list[int]:
    """The number of passages in each part."""
    return [sum(shard_rows[i] for i in part) for part in _parts(shard_rows)]


def lexical_parts(plan: Plan, shard_rows: Sequence[int]) -> None:
    """Write the parts that do not exist yet."""
    folder = plan.work / LEXICAL
    folder.mkdir(exist_ok=True)
    for number, shards in enumerate(_parts(shard_rows)):
        if (folder / part_name(number)).exists():
            continue
        aside = folder / f".{part_name(number)}.part"
        shutil.rmtree(aside, ignore_errors=True)
        total = sum(shard_rows[i] for i in shards)
        with progress(total, f"bm25 part {number}", "passage") as bar:
            write_part(aside, _texts(plan, shards), plan.language, bar.update)
        aside.rename(folder / part_name(number))


def _texts(plan: Plan, shards: Sequence[int]) -> Iterator[str]:
    for number in shards:
        yield from shard_texts(plan, number)


def _parts(shard_rows: Sequence[int]) -> list[list[int]]:
    """Shard numbers per part: as many shards as fit into the size of a part, at least one."""
    parts: list[list[int]] = []
    rows = PART_ROWS
    for number, count in enumerate(shard_rows):
        if rows + count > PART_ROWS:
            parts.append([])
            rows = 0
        parts[-1].append(number)
        rows += count
    return parts
