"""MAP@3 with and without contexts on question sets, ranked without training."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import parser, report, score_tables
from kaggle_rag.config import ContextSettings
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.metrics import (
    average_precision_at_k,
    bootstrap,
    chance_map_at_k,
    map_at_k,
    paired_bootstrap,
    ranks_of_answers,
)
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.rankers.similarity import SimilarityRanker
from kaggle_rag.retrieval.retriever import Retriever
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.sample import ARTICLES, TRAIN


def sample_index(folder: str) -> str:
    """The index of the embedded encyclopedia, built by the command a user would type."""
    command = [sys.executable, "-m", "wiki_index", "build", str(ARTICLES), f"{folder}/index"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return f"{folder}/index"


def ranked(questions: Questions, table: np.ndarray) -> np.ndarray:
    return ranks_of_answers(table, questions.answers, questions.present)


def compare(
    name: str, questions: Questions, index: Index, encoder: Encoder
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One row of the main table, and one of the table of all scores."""
    contexts = Retriever(index, encoder, ContextSettings())(questions, progress=True)
    with SimilarityRanker(encoder, index) as ranker:
        tables = score_tables(ranker, questions, contexts)
        ranks = {score: ranked(questions, table) for score, table in tables.items()}
        seen = average_precision_at_k(ranks[ranker.score])
    # Without contexts the similarity ranker has only `words_only` to go by.
    unseen = average_precision_at_k(ranks["words_only"])
    scores = {"questions": name} | {score: f"{map_at_k(each):.3f}" for score, each in ranks.items()}
    row = {
        "questions": name,
        "n": len(questions),
        "chance": f"{chance_map_at_k(questions.present.sum(axis=1)):.3f}",
        "without contexts": bootstrap(unseen),
        "with contexts": bootstrap(seen),
        "difference": paired_bootstrap(seen, unseen),
    }
    return row, scores


def main() -> int:
    flags = parser(str(__doc__))
    flags.add_argument("--index", help="default: the embedded sample's, built in a temporary folder")
    flags.add_argument("--questions", nargs="+", default=[str(TRAIN)], help="question files with answers")
    arguments = flags.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = Index(arguments.index or sample_index(folder))
        encoder = Encoder.of_index(index.manifest.encoder)
        rows, scores = [], []
        for path in map(Path, arguments.questions):
            questions = Questions.read(path)
            if arguments.quick:
                questions = questions.take(range(min(len(questions), 60)))
            row, each = compare(path.stem, questions, index, encoder)
            rows.append({key: str(value) for key, value in row.items()})
            scores.append(each)
        note = (
            f"Index: {index.manifest.articles:,} articles, {len(index):,} passages; 95 % bootstrap intervals."
        )
    report("MAP@3, ranked without training", rows, arguments.json, note)
    report("MAP@3 of every training-free score, with contexts", scores, None)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
