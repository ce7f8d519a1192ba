"""Evidence for many questions: ours compared with the loop in public notebooks.

The loop builds, for each question, an ``IndexFlatL2`` of its candidate sentences and searches it
with all questions to keep one row, so its cost grows with the square of the number of questions. Ours
compares each question with its own candidates. Both get the same candidates (the sentences of the five
articles nearest to the question) and must give the same evidence.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import faiss
import numpy as np
from tqdm import tqdm

from benchmarks.common import parser, report, timed
from kaggle_rag.index.index import Index
from kaggle_rag.index.vectors import Vectors
from kaggle_rag.retrieval.rerank import exact_distances
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.runtime.limits import show_size

ARTICLES, KEEP = 5, 20


def corpus(folder: str | None, rows: int, seed: int = 0) -> tuple[Vectors, np.ndarray]:
    """Vectors ``(rows, 384)`` and the article of each: from an index, or drawn around article centres."""
    if folder:
        index = Index(folder, verify_content=False)
        chosen = np.arange(min(rows, len(index)))
        articles = np.array([index.passages[int(row)].article for row in chosen])
        return index.vectors(chosen), articles
    rng = np.random.default_rng(seed)
    articles = np.sort(rng.integers(0, rows // 300, rows))
    centres = rng.normal(size=(rows // 300, 384))
    return unit(centres[articles] + rng.normal(size=(rows, 384))), articles


def unit(vectors: np.ndarray) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def candidates(queries: Vectors, vectors: Vectors, articles: np.ndarray) -> list[np.ndarray]:
    """Rows of the five articles whose mean vector is nearest to each question."""
    names, starts, sizes = np.unique(articles, return_index=True, return_counts=True)
    means = faiss.IndexFlatL2(vectors.shape[1])
    means.add(unit(np.add.reduceat(vectors, starts, axis=0) / sizes[:, None]))
    _, near = means.search(queries, min(ARTICLES, len(names)))
    return [np.concatenate([np.arange(starts[a], starts[a] + sizes[a]) for a in row]) for row in near]


def notebook_loop(queries: Vectors, vectors: Vectors, pools: Sequence[np.ndarray]) -> list[np.ndarray]:
    """As published: one index per question, searched with every question."""
    found = []
    for question, pool in enumerate(tqdm(pools, desc="notebook loop", unit="question")):
        index = faiss.index_factory(vectors.shape[1], "Flat")
        index.add(vectors[pool])
        _, near = index.search(queries, KEEP)
        found.append(pool[near[question]])
    return found


def ours(queries: Vectors, vectors: Vectors, pools: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each question against its own candidates, exactly (`exact_distances`)."""
    found = []
    for query, pool in zip(queries, pools):
        distances = exact_distances(query[None], vectors[pool])[0]
        found.append(pool[np.argsort(distances, kind="stable")[:KEEP]])
    return found


def same_evidence(queries: Vectors, vectors: Vectors, left: list, right: list) -> float:
    """Share of questions with the same evidence; rows at equal distance (1e-4) may swap places."""
    equal = 0
    for query, a, b in zip(queries, left, right):
        gaps = [np.linalg.norm(vectors[rows] - query, axis=1) for rows in (a, b)]
        equal += bool(np.allclose(*gaps, atol=1e-4))
    return equal / len(left)


def main() -> int:
    flags = parser(str(__doc__).splitlines()[0])
    flags.add_argument("--index", help="take the vectors from this index (default: drawn at random)")
    arguments = flags.parse_args()
    questions, rows = (300, 100_000) if arguments.quick else (4_000, 150_000)
    vectors, articles = corpus(arguments.index, rows)
    rng = np.random.default_rng(1)
    asked = vectors[rng.integers(0, len(vectors), questions)]
    queries = unit(asked + 0.04 * rng.normal(size=asked.shape))
    pools = candidates(queries, vectors, articles)
    mine, seconds, peak = timed("ours", lambda: ours(queries, vectors, pools))
    loop, loop_seconds, loop_peak = timed("loop", lambda: notebook_loop(queries, vectors, pools), repeats=1)
    table = [
        {"method": "notebook loop", "seconds": f"{loop_seconds:.1f}", "ratio": "1",
         "peak RAM": show_size(loop_peak)},
        {"method": "kaggle-rag", "seconds": f"{seconds:.2f}", "ratio": f"{loop_seconds / seconds:.0f}",
         "peak RAM": show_size(peak)},
    ]  # fmt: skip
    source = "passages of an index" if arguments.index else "drawn around article centres"
    note = (
        f"{questions:,} questions, {len(vectors):,} sentence vectors ({source}), "
        f"{np.mean([len(pool) for pool in pools]):.0f} candidates a question; same evidence for "
        f"{same_evidence(queries, vectors, mine, loop):.1%} of the questions. "
        "Ours is the median of 3 runs, the loop one run. Peak RAM holds the vectors of both."
    )
    report("Evidence for many questions", table, arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
