"""Re-ranking: the pairs of many questions read at once, compared with one question at a time.

Each of the sample's questions is paired with 50 sentences of its articles, drawn by a seed, and read by
MiniLM with a random head, which takes the time and memory of a trained one. The scores must agree.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.common import parser, report, timed
from kaggle_rag.data.questions import Questions
from kaggle_rag.data.tables import read_rows
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, resolve
from kaggle_rag.retrieval.crossencoder import CrossEncoder, Scores
from kaggle_rag.retrieval.queries import queries_of
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.runtime.limits import show_size
from kaggle_rag.sample import ARTICLES, TRAIN
from kaggle_rag.text.units import sentences

PASSAGES = 50
Pairs = list[tuple[str, str]]


def pairs_of(count: int, seed: int = 0) -> list[Pairs]:
    """``PASSAGES`` pairs for each of the first questions of the sample."""
    lines = [line for row in read_rows(ARTICLES) for line in sentences(str(row["text"]), "en")]
    questions = Questions.read(TRAIN).take(range(count))
    rng = np.random.default_rng(seed)
    return [
        [(asked[0].text, lines[row]) for row in rng.choice(len(lines), PASSAGES, replace=False)]
        for asked in queries_of(questions, ("all",), ("all",))
    ]


def reranker(folder: Path, device: str | None) -> CrossEncoder:
    source = resolve(DEFAULT_ENCODER).path
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(source, num_labels=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return CrossEncoder(str(folder), device=device)


def read(model: CrossEncoder, pairs: Sequence[tuple[str, str]]) -> Scores:
    return model.scores([query for query, _ in pairs], [text for _, text in pairs])


def alone(model: CrossEncoder, questions: Sequence[Pairs]) -> Scores:
    return np.concatenate([read(model, pairs) for pairs in questions])


def together(model: CrossEncoder, questions: Sequence[Pairs], at_once: int) -> Scores:
    """As the retriever does: the pairs of ``at_once`` questions in one list."""
    starts = range(0, len(questions), at_once)
    groups = [list(itertools.chain.from_iterable(questions[i : i + at_once])) for i in starts]
    return np.concatenate([read(model, pairs) for pairs in groups])


def main() -> int:
    flags = parser(str(__doc__).splitlines()[0])
    flags.add_argument("--device", help="cuda or cpu")
    flags.add_argument("--at-once", type=int, default=64, help="questions whose pairs are read together")
    arguments = flags.parse_args()
    questions = pairs_of(16 if arguments.quick else 100)
    with tempfile.TemporaryDirectory() as folder:
        model = reranker(Path(folder), arguments.device)
    read(model, questions[0])
    repeats = 1 if arguments.quick else 3
    old, old_seconds, old_peak = timed("alone", lambda: alone(model, questions), repeats)
    new, seconds, peak = timed("together", lambda: together(model, questions, arguments.at_once), repeats)
    count = len(questions) * PASSAGES
    table = [
        {"pairs read": name, "seconds": f"{took:.2f}", "pairs/s": f"{count / took:.0f}",
         "ratio": f"{old_seconds / took:.2f}", "peak RAM": show_size(most)}
        for name, took, most in (
            ("one question at a time", old_seconds, old_peak),
            (f"{arguments.at_once} questions at a time", seconds, peak),
        )
    ]  # fmt: skip
    note = (
        f"{len(questions)} questions, {PASSAGES} passages each, on {model.device}; median of {repeats} runs; "
        f"the scores differ by {np.abs(old - new).max():.1e} at most."
    )
    report("Re-ranking", table, arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
