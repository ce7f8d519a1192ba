"""Finding the gold text of a set's dev questions: before and after training on its train questions.

The retriever is trained by `python -m training retriever` with benchmarks/retriever_training.yaml, the
re-ranker by `python -m training reranker` with benchmarks/reranker_training.yaml. Dev is excluded from
both, by prompt. Every question of `openbookqa` looks for its one fact among the 1,326 facts of the open
book, every question of `qasc` for its two facts among those of all questions of the file.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import kit, parser, report, written_rows
from benchmarks.open_book import SETS, rows_of
from kaggle_rag.data.questions import Questions
from kaggle_rag.data.tables import read_rows
from kaggle_rag.evaluation.metrics import paired_bootstrap
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.retrieval.crossencoder import CrossEncoder
from kaggle_rag.retrieval.fusion import RetrieverScores, reciprocal_ranks
from kaggle_rag.retrieval.queries import queries_of
from kaggle_rag.runtime.files import whole_file
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
_QUICK_ROWS, _QUICK_QUESTIONS = 150, 10


@dataclasses.dataclass(frozen=True)
class Task:
    """Sets of `benchmarks.open_book.SETS` to learn from and to be judged by, and the column of the gold text.

    ``book`` : the passages, relative to the data; empty: the gold texts of the whole file.
    """

    title: str
    learnt: str
    judged: str
    gold: str
    book: str = ""


TASKS = {
    "openbookqa": Task(
        "The gold fact of OpenBookQA dev", "openbookqa_train", "openbookqa_dev", "fact", "openbook_facts.txt"
    ),
    "qasc": Task("The two facts of QASC dev", "qasc_train", "qasc", "support"),
}


@dataclasses.dataclass(frozen=True)
class Files:
    """What both trainings read, and the questions that judge them."""

    learnt: Path
    judged: Path
    passages: Path
    gold: str

    @classmethod
    def written(cls, task: Task, data: Path, folder: Path, most: int | None, quick: bool) -> Files:
        folder.mkdir(parents=True, exist_ok=True)
        learnt = [*rows_of(task.learnt, data, most=_QUICK_ROWS if quick else most).values()]
        judged = [*rows_of(task.judged, data, most=_QUICK_QUESTIONS if quick else None).values()]
        if task.book and not quick:
            texts = (data / task.book).read_text(encoding="utf-8").splitlines()
        else:
            whole = [] if quick else read_rows(data / SETS[task.judged].file)
            texts = [str(row[task.gold]) for row in (*learnt, *judged, *whole)]
        passages = folder / "passages.txt"
        with whole_file(passages) as aside:
            aside.write_text("\n".join(dict.fromkeys(texts)) + "\n", encoding="utf-8")
        tables = (written_rows(learnt, folder / "learnt.csv"), written_rows(judged, folder / "judged.csv"))
        return cls(*tables, passages, task.gold)


def train(kind: str, out: Path, files: Files, quick: bool) -> Path:
    """The model folder at ``out``, trained unless it exists; a killed training resumes."""
    kit(
        "training", kind, "--config", HERE / f"{kind}_training.yaml", "--questions", files.learnt,
        "--positive", files.gold, "--passages", files.passages, "--exclude", files.judged, "--out", out,
        *(_QUICK if quick else ()),
    )  # fmt: skip
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


def merged(found: np.ndarray, again: np.ndarray) -> np.ndarray:
    """Two orders of the same passages as one, by reciprocal rank fusion, ``(n, 50)``."""
    orders = [np.argsort(rows, axis=1) for rows in (found, again)]
    scores = reciprocal_ranks([RetrieverScores(1, np.empty(0), order + 1.0) for order in orders])
    best = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(np.sort(found, axis=1), best, axis=1)


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
        "texts not trained on": f"{(ranks <= 5)[~seen].mean():.3f}",
    }


def seen_texts(files: Files) -> set[str]:
    """The gold texts the retriever was trained on, with normalised spelling."""
    flags = {"questions": files.learnt, "positive": files.gold, "out": "unused"}
    settings = read_settings(RetrieverSettings, HERE / "retriever_training.yaml", (), flags)
    queries = read_queries(settings.questions, settings.positive, settings.forms)
    learnt, _ = split(without(queries, [files.judged]), settings.held_out, settings.seed)
    return {same(str(query.positive)) for query in learnt}


def held_out_rows(folder: Path) -> list[dict[str, str]]:
    """Metrics before and after on the train questions whose texts were held out, as the run recorded them."""
    result = json.loads((folder / RECORD).read_text(encoding="utf-8"))["result"]
    return [
        {"trained": when, "questions": str(result["notes"]["held out"])}
        | {name: f"{value:.3f}" for name, value in result[when].items()}
        for when in ("before", "after")
    ]


@dataclasses.dataclass(frozen=True)
class Dev:
    """The dev questions, asked as prompt and options: the form with one query per question.

    ``gold`` holds rows of ``passages``; ``seen`` marks questions whose text was trained on with another one.
    """

    queries: list[str]
    passages: list[str]
    gold: np.ndarray
    seen: np.ndarray

    @classmethod
    def read(cls, files: Files) -> Dev:
        asked = queries_of(Questions.read(files.judged), ("all",), ("all",))
        golds = [same(str(row[files.gold])) for row in read_rows(files.judged)]
        passages = read_passages(files.passages)
        place, learnt = {same(text): row for row, text in enumerate(passages)}, seen_texts(files)
        return cls(
            [each[0].text for each in asked], passages,
            np.array([place[gold] for gold in golds]), np.array([gold in learnt for gold in golds]),
        )  # fmt: skip


def main() -> int:
    flags = parser(str(__doc__).splitlines()[0])
    flags.add_argument("task", nargs="?", default="openbookqa", choices=TASKS, help="default: openbookqa")
    flags.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data", help="shared data")
    flags.add_argument("--learnt", type=int, metavar="N", help="questions to learn from (default: all)")
    flags.add_argument("--runs", type=Path, help="folder for the models (default: runs/retrievers/TASK)")
    flags.add_argument("--without-reranker", action="store_true", help="train and test only the retriever")
    arguments = flags.parse_args()
    task, runs = TASKS[arguments.task], arguments.runs or Path("runs/retrievers") / arguments.task
    runs = runs / "quick" if arguments.quick else runs
    files = Files.written(task, arguments.data, runs, arguments.learnt, arguments.quick)
    dev = Dev.read(files)
    retriever = train("retriever", runs / "retriever", files, arguments.quick)
    found = {
        name: ranked(Encoder(where), dev.queries, dev.passages)
        for name, where in (("MiniLM", DEFAULT_ENCODER), ("MiniLM, trained", str(retriever)))
    }
    if not arguments.without_reranker:
        reranker = train("reranker", runs / "reranker", files, arguments.quick)
        again = reranked(CrossEncoder(str(reranker)), dev.queries, dev.passages, found)
        for name, rows in zip([*found], again):
            found[f"{name}, re-ranked"] = rows
            found[f"{name}, both orders merged"] = merged(found[name], rows)
    ranks = {name: ranks_of(rows, dev.gold) for name, rows in found.items()}
    report(
        task.title,
        [row_of(name, each, ranks["MiniLM"], dev.seen) for name, each in ranks.items()],
        arguments.json,
        f"{len(dev.queries)} dev questions, asked as prompt and options; {len(dev.passages):,} texts"
        + ("" if arguments.without_reranker else f", of which the {DEPTH} nearest are re-ranked")
        + f". The texts of {dev.seen.sum()} of these questions were trained "
        f"on, with other questions; those of {(~dev.seen).sum()} were not. 95 % paired bootstrap intervals.",
    )
    report(
        "The same on train questions whose texts were held out", held_out_rows(retriever), None,
        "The retriever alone. The checkpoint was chosen on these questions, and so were the settings.",
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
