"""Finding the gold fact of OpenBookQA's dev questions: before and after training on its train questions.

The retriever is trained by `python -m training retriever` with benchmarks/retriever_training.yaml, the
re-ranker by `python -m training reranker` with benchmarks/reranker_training.yaml. Dev is excluded from
both, by prompt. Every question looks for its one gold fact among the 1,326 facts of the open book.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import first_rows, parser, report
from kaggle_rag.data.questions import Questions
from kaggle_rag.data.tables import read_rows
from kaggle_rag.evaluation.metrics import paired_bootstrap
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.retrieval.crossencoder import CrossEncoder
from kaggle_rag.retrieval.queries import queries_of
from kaggle_rag.runtime.settings import read_settings
from kaggle_rag.text.normalise import same
from training.loop.run_folder import RECORD
from training.retrieval.corpus import nearest, read_passages
from training.retrieval.queries import read_queries, split, without
from training.retrieval.settings import RetrieverSettings

HERE = Path(__file__).parent
DEPTH = 50
# A quick run shows that everything works; its numbers mean nothing.
_QUICK = ("--epochs", "0.1", "--held-out", "0.05")
QUICK_ROWS, QUICK_QUESTIONS, QUICK_FACTS = 150, 10, 60


def train(kind: str, out: Path, data: Path, quick: bool) -> Path:
    """The model folder at ``out``, trained unless it exists; a killed training resumes."""
    questions = data / "mcq/openbookqa_train.csv"
    # Without --passages the facts of the questions are the passages.
    size = ["--passages", str(data / "openbook_facts.txt")]
    if quick:
        questions, size = first_rows(questions, out.parent, QUICK_ROWS), [*_QUICK]
    command = [
        sys.executable, "-m", "training", kind, "--config", str(HERE / f"{kind}_training.yaml"),
        "--questions", str(questions), "--exclude", str(data / "mcq/openbookqa_dev.csv"),
        "--out", str(out), *size,
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def ranked(encoder: Encoder, queries: Sequence[str], facts: Sequence[str]) -> np.ndarray:
    """Rows of the 50 nearest facts of each query, ``(n, 50)``."""
    return nearest(encoder.encode_queries(queries), encoder.encode_passages(facts), DEPTH)[1]


def reranked(
    model: CrossEncoder, queries: Sequence[str], facts: Sequence[str], found: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """The same rows sorted by the cross-encoder's scores; a pair that two retrievers found is scored once."""
    pairs = sorted({(q, int(row)) for rows in found.values() for q, near in enumerate(rows) for row in near})
    scores = model.scores([queries[q] for q, _ in pairs], [facts[row] for _, row in pairs])
    table = np.full((len(queries), len(facts)), -np.inf)
    table[tuple(np.array(pairs).T)] = scores
    return [
        np.take_along_axis(rows, np.argsort(-np.take_along_axis(table, rows, 1), axis=1, kind="stable"), 1)
        for rows in found.values()
    ]


def ranks_of(found: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """1-based rank of the gold row of each query; one past the last if it is not among them."""
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
    """The facts the retriever was trained on, with normalised spelling."""
    flags = {"questions": data / "mcq/openbookqa_train.csv", "out": "unused"}
    settings = read_settings(RetrieverSettings, HERE / "retriever_training.yaml", (), flags)
    questions = without(
        read_queries(settings.questions, settings.positive, settings.forms), [data / "mcq/openbookqa_dev.csv"]
    )
    learnt, _ = split(questions, settings.held_out, settings.seed)
    return {same(str(question.positive)) for question in learnt}


def held_out_rows(folder: Path) -> list[dict[str, str]]:
    """Metrics before and after on the train questions whose facts were held out, as the run recorded them."""
    result = json.loads((folder / RECORD).read_text(encoding="utf-8"))["result"]
    return [
        {"trained": when, "questions": str(result["notes"]["held out"])}
        | {name: f"{value:.3f}" for name, value in result[when].items()}
        for when in ("before", "after")
    ]


@dataclasses.dataclass(frozen=True)
class Dev:
    """The dev questions, asked as prompt and options: the form with one query per question.

    ``gold`` holds rows of ``facts``; ``seen`` marks questions whose fact was trained on with another one.
    """

    queries: list[str]
    facts: list[str]
    gold: np.ndarray
    seen: np.ndarray

    @classmethod
    def read(cls, data: Path, quick: bool) -> Dev:
        path = data / "mcq/openbookqa_dev.csv"
        asked = queries_of(Questions.read(path), ("all",), ("all",))[: QUICK_QUESTIONS if quick else None]
        golds = [same(str(row["fact"])) for row in read_rows(path)][: len(asked)]
        facts = read_passages(data / "openbook_facts.txt")
        if quick:
            facts = [*facts[:QUICK_FACTS], *(fact for fact in facts[QUICK_FACTS:] if same(fact) in golds)]
        place, learnt = {same(fact): row for row, fact in enumerate(facts)}, seen_facts(data)
        return cls(
            [each[0].text for each in asked], facts,
            np.array([place[gold] for gold in golds]), np.array([gold in learnt for gold in golds]),
        )  # fmt: skip


def main() -> int:
    flags = parser(str(__doc__).splitlines()[0])
    flags.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data", help="shared data")
    flags.add_argument("--runs", type=Path, default=Path("runs/openbookqa"), help="folder for the models")
    flags.add_argument("--without-reranker", action="store_true", help="train and test only the retriever")
    arguments = flags.parse_args()
    runs = arguments.runs / "quick" if arguments.quick else arguments.runs
    dev = Dev.read(arguments.data, arguments.quick)
    retriever = train("retriever", runs / "retriever", arguments.data, arguments.quick)
    found = {
        name: ranked(Encoder(where), dev.queries, dev.facts)
        for name, where in (("MiniLM", DEFAULT_ENCODER), ("MiniLM, trained", str(retriever)))
    }
    if not arguments.without_reranker:
        reranker = train("reranker", runs / "reranker", arguments.data, arguments.quick)
        again = reranked(CrossEncoder(str(reranker)), dev.queries, dev.facts, found)
        found |= {f"{name}, re-ranked": rows for name, rows in zip(list(found), again)}
    ranks = {name: ranks_of(rows, dev.gold) for name, rows in found.items()}
    report(
        "The gold fact of OpenBookQA dev",
        [row_of(name, each, ranks["MiniLM"], dev.seen) for name, each in ranks.items()],
        arguments.json,
        f"{len(dev.queries)} dev questions, asked as prompt and options; {len(dev.facts):,} facts"
        + ("" if arguments.without_reranker else f", of which the {DEPTH} nearest are re-ranked")
        + f". The facts of {dev.seen.sum()} of these questions were trained "
        f"on, with other questions; those of {(~dev.seen).sum()} were not. 95 % paired bootstrap intervals.",
    )
    report(
        "The same on train questions whose facts were held out", held_out_rows(retriever), None,
        "The retriever alone. The checkpoint was chosen on these questions, and so were the settings.",
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
