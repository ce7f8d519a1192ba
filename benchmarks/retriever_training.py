"""Finding the gold fact of OpenBookQA's dev questions: before and after training on its train questions.

The retriever is trained by `python -m training retriever` with benchmarks/retriever_training.yaml, the
re-ranker by `python -m training reranker` with benchmarks/reranker_training.yaml. Dev is excluded from
both, by prompt. Every question asks for its one gold fact among the 1,326 facts of the open book.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import parser, report
from kaggle_rag.config import read_settings
from kaggle_rag.metrics import paired_bootstrap
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.questions import Questions
from kaggle_rag.retrieval.crossencoder import CrossEncoder
from kaggle_rag.retrieval.encoder import Encoder
from kaggle_rag.retrieval.queries import queries_of
from kaggle_rag.tables import read_rows
from training.config import RetrieverSettings
from training.corpus import nearest, read_passages, same
from training.lessons import read_lessons, split, without
from training.run import RECORD

HERE = Path(__file__).parent
DEPTH = 50
# A quick run shows that everything works; its numbers mean little.
_QUICK = ("--epochs", "0.02", "--held-out", "0.01", "--candidates", "10")
QUICK_QUESTIONS = 20


def train(kind: str, out: Path, data: Path, quick: bool) -> Path:
    """The model folder at ``out``, trained unless it is there; killed, it goes on where it was."""
    command = [
        sys.executable, "-m", "training", kind, "--config", str(HERE / f"{kind}_training.yaml"),
        "--questions", str(data / "mcq/openbookqa_train.csv"), "--passages", str(data / "openbook_facts.txt"),
        "--exclude", str(data / "mcq/openbookqa_dev.csv"), "--out", str(out),
    ]  # fmt: skip
    if quick:
        command += _QUICK[:4] if kind == "retriever" else _QUICK
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def ranked(encoder: Encoder, queries: Sequence[str], facts: Sequence[str]) -> np.ndarray:
    """Rows of the 50 nearest facts of each query, ``(n, 50)``."""
    return nearest(encoder.encode_queries(queries), encoder.encode_passages(facts), DEPTH)[1]


def reranked(
    model: CrossEncoder, queries: Sequence[str], facts: Sequence[str], found: np.ndarray
) -> np.ndarray:
    """The same rows, by the scores of the cross-encoder."""
    pairs = [(query, facts[row]) for query, rows in zip(queries, found) for row in rows]
    scores = model.scores([query for query, _ in pairs], [fact for _, fact in pairs]).reshape(found.shape)
    return np.take_along_axis(found, np.argsort(-scores, axis=1, kind="stable"), axis=1)


def ranks_of(found: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """1-based rank of the gold row of each query; behind all of them where it is not among them."""
    hits = found == gold[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, found.shape[1] + 1)


def row_of(name: str, ranks: np.ndarray, before: np.ndarray, seen: np.ndarray) -> dict[str, Any]:
    """One line of the table; the difference is that of recall@5 to the untrained encoder."""
    gains = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0)
    return {
        "ranked by": name,
        **{f"recall@{k}": f"{(ranks <= k).mean():.3f}" for k in (1, 5, 10, 50)},
        "nDCG@10": f"{gains.mean():.3f}",
        "recall@5 against MiniLM": "" if ranks is before else str(paired_bootstrap(ranks <= 5, before <= 5)),
        "facts not trained on": f"{(ranks <= 5)[~seen].mean():.3f}",
    }


def seen_facts(data: Path) -> set[str]:
    """The facts the retriever was trained on, spelled alike."""
    flags = {"questions": data / "mcq/openbookqa_train.csv", "out": "unused"}
    settings = read_settings(RetrieverSettings, HERE / "retriever_training.yaml", (), flags)
    lessons = without(
        read_lessons(settings.questions, settings.positive, settings.forms), [data / "mcq/openbookqa_dev.csv"]
    )
    learnt, _ = split(lessons, settings.held_out, settings.seed)
    return {same(str(lesson.positive)) for lesson in learnt}


def held_out_row(folder: Path) -> list[dict[str, str]]:
    """Before and after on the train questions whose facts were held out, as the run recorded them."""
    result = json.loads((folder / RECORD).read_text(encoding="utf-8"))["result"]
    return [
        {"trained": when, "questions": str(result["notes"]["held out"])}
        | {name: f"{value:.3f}" for name, value in result[when].items()}
        for when in ("before", "after")
    ]


def main() -> int:
    flags = parser(str(__doc__).splitlines()[0])
    flags.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data", help="shared data")
    flags.add_argument("--runs", type=Path, default=Path("runs/openbookqa"), help="where the models go")
    arguments = flags.parse_args()
    data, runs = arguments.data, arguments.runs / "quick" if arguments.quick else arguments.runs
    dev = data / "mcq/openbookqa_dev.csv"
    facts = read_passages(data / "openbook_facts.txt")
    gold_texts = [str(row["fact"]) for row in read_rows(dev)]
    place = {same(fact): row for row, fact in enumerate(facts)}
    gold = np.array([place[same(text)] for text in gold_texts])
    learnt = seen_facts(data)
    seen = np.array([same(text) in learnt for text in gold_texts])
    # The prompt with all its options: the form in which a question is asked once.
    queries = [asked[0].text for asked in queries_of(Questions.read(dev), ("all",), ("all",))]

    retriever = train("retriever", runs / "retriever", data, arguments.quick)
    reranker = CrossEncoder(str(train("reranker", runs / "reranker", data, arguments.quick)))
    found = {
        "MiniLM": ranked(Encoder(DEFAULT_ENCODER), queries, facts),
        "MiniLM, trained": ranked(Encoder(str(retriever)), queries, facts),
    }
    shown = QUICK_QUESTIONS if arguments.quick else len(queries)
    found = {name: rows[:shown] for name, rows in found.items()}
    found |= {
        f"{name}, then re-ranked": reranked(reranker, queries[:shown], facts, rows)
        for name, rows in found.items()
    }
    ranks = {name: ranks_of(rows, gold[:shown]) for name, rows in found.items()}
    table = [row_of(name, each, ranks["MiniLM"], seen[:shown]) for name, each in ranks.items()]
    note = (
        f"{shown} dev questions, asked as prompt and options, 1,326 facts; re-ranked are the 50 nearest. "
        f"The facts of {seen[:shown].sum()} of these questions were trained on, with other questions; "
        f"those of {(~seen[:shown]).sum()} were not. 95 % paired bootstrap intervals."
    )
    report("The gold fact of OpenBookQA dev", table, arguments.json, note)
    report(
        "The same on train questions whose facts were held out", held_out_row(retriever), None,
        "The retriever alone. The checkpoint was chosen on these questions, the settings too.",
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
