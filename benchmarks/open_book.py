"""MAP@3 of every training-free score when the texts behind the questions are indexed.

A question is answered from all texts of its set (or from an index of Wikipedia articles), never from its own
text alone. `benchmarks.fit_default` fits on ``--rows even``; the odd rows measure how good the fit is.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import index_of_texts, parser, report, score_tables
from kaggle_rag.config import ContextSettings
from kaggle_rag.data.probabilities import softmax
from kaggle_rag.data.questions import Questions
from kaggle_rag.data.tables import read_rows
from kaggle_rag.evaluation.metrics import average_precision_at_k, map_at_k, paired_bootstrap, ranks_of_answers
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.rankers.similarity import SimilarityRanker
from kaggle_rag.rankers.weighed import TEMPERATURE
from kaggle_rag.retrieval.retriever import Retriever
from kaggle_rag.runtime.errors import InputError, run_program

HERE = Path(__file__).parent
# Sums of two scores, each standardised within its question.
SUMS = (("novel", "overlap"), ("novel", "bm25"), ("lift", "bm25"))
_QUICK_ROWS = 40
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclasses.dataclass(frozen=True)
class OpenBook:
    """A question set, and the texts that it is answered from.

    Attributes
    ----------
    file : file of the questions, relative to the data.
    texts : the texts of a row of the file; ``None`` if they are in their own file or in the given index.
    book : such a file, one text per line.
    wanted : whether a row of the file belongs to the set.
    """

    file: str
    texts: Callable[[dict[str, Any]], list[str]] | None = None
    book: str | None = None
    wanted: Callable[[dict[str, Any]], bool] = lambda row: True


SETS = {
    "sciq": OpenBook(
        "openbook/sciq_support.csv", lambda row: [row["support"]], wanted=lambda row: row["split"] == "train"
    ),
    "sciq_held_out": OpenBook(
        "openbook/sciq_support.csv", lambda row: [row["support"]], wanted=lambda row: row["split"] != "train"
    ),
    "llmse_science": OpenBook(
        "openbook/llmse_wiki_context.csv", lambda row: [row["context"]],
        wanted=lambda row: row["id"].startswith("stem1k"),
    ),
    # With their texts the questions of extra_500: never to be learnt from where that is judged.
    "llmse_general": OpenBook(
        "openbook/llmse_wiki_context.csv", lambda row: [row["context"]],
        wanted=lambda row: row["id"].startswith("extra500"),
    ),
    "qasc": OpenBook(
        "openbook/qasc_facts.csv", lambda row: _SENTENCE.split(row["support"]),
        wanted=lambda row: row["split"] != "train",
    ),
    "qasc_train": OpenBook(
        "openbook/qasc_facts.csv", lambda row: _SENTENCE.split(row["support"]),
        wanted=lambda row: row["split"] == "train",
    ),
    "openbookqa_train": OpenBook("mcq/openbookqa_train.csv", book="openbook_facts.txt"),
    "openbookqa_dev": OpenBook("mcq/openbookqa_dev.csv", book="openbook_facts.txt"),
    "arc_easy_train": OpenBook("mcq/arc_easy_train.csv"),
    "arc_challenge_train": OpenBook("mcq/arc_challenge_train.csv"),
    "mmlu_stem_even": OpenBook("mcq/mmlu_stem_even.csv"),
    "extra_6k": OpenBook("mcq/extra_6k.csv"),
    "extra_500": OpenBook("mcq/extra_500.csv"),
}  # fmt: skip
ROWS = {"all": (0, 1), "even": (0, 2), "odd": (1, 2)}


def rows_of(name: str, data: Path, rows: str = "all", most: int | None = None) -> dict[int, dict[str, Any]]:
    """The first ``most`` of the chosen rows of a set's file, by their number in the file, counted from 0."""
    first, step = ROWS[rows]
    numbered = enumerate(read_rows(data / SETS[name].file))
    found = ((n, row) for n, row in numbered if n % step == first and SETS[name].wanted(row))
    return dict(itertools.islice(found, most))


def questions_of(name: str, data: Path, rows: str, most: int) -> Questions:
    """The questions of `rows_of`."""
    return Questions.read(data / SETS[name].file).take(list(rows_of(name, data, rows, most)))


def texts_of(name: str, data: Path) -> Iterable[str]:
    """The texts of a set, in the order of their file; none where it is read with Wikipedia."""
    book = SETS[name]
    if book.book:
        return (data / book.book).read_text(encoding="utf-8").splitlines()
    if of_row := book.texts:
        return (text for row in read_rows(data / book.file) for text in of_row(row))
    return ()


def index_of(name: str, data: Path, folder: Path, wikipedia: Path | None, encoder: str = "") -> Path:
    """The index of a set's texts, built in ``folder`` unless it exists; or that of Wikipedia."""
    book = SETS[name]
    if book.book:
        return index_of_texts(texts_of(name, data), folder, Path(book.book).stem, encoder=encoder)
    if book.texts:
        return index_of_texts(texts_of(name, data), folder, Path(book.file).stem, "sentence", encoder)
    if wikipedia is None:
        raise InputError(f"{name} has no texts of its own", expected="--index, of Wikipedia articles")
    return wikipedia


def retrieved(questions: Questions, index: Index, encoder: Encoder) -> list[Any]:
    """Contexts with the default settings, ignoring any that the rows bring."""
    return Retriever(index, encoder, ContextSettings(own="ignore"))(questions, progress=True)


def standardised(table: np.ndarray, present: np.ndarray) -> np.ndarray:
    """``(n, k)`` scores minus their mean within a question, over their standard deviation within it."""
    scores = np.where(present, table, np.nan)
    spread = np.nanstd(scores, axis=1, keepdims=True)
    centred = scores - np.nanmean(scores, axis=1, keepdims=True)
    return np.nan_to_num(centred / np.where(spread > 1e-9, spread, 1))


def calibration_error(sure: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over bins of confidence.

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599, equation 3.
    """
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs(sure[place == b].sum() - right[place == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(sure))


def judged(name: str, questions: Questions, index: Index, encoder: Encoder) -> tuple[dict, dict, dict]:
    """A row of each table: MAP@3 of the scores, the default compared with the others, its confidence."""
    with SimilarityRanker(encoder, index) as ranker:
        tables = score_tables(ranker, questions, retrieved(questions, index, encoder))
    present, answers = questions.present, questions.answers
    for a, b in SUMS:
        tables[f"{a} + {b}"] = standardised(tables[a], present) + standardised(tables[b], present)
    values = {
        score: average_precision_at_k(ranks_of_answers(table, answers, present))
        for score, table in tables.items()
    }
    row = {"questions": name, "n": len(questions)}
    scores = row | {score: f"{each.mean():.3f}" for score, each in values.items()}
    against = ("novel", "bm25", "novel + bm25", "lift + bm25")
    gaps = row | {f"against {s}": str(paired_bootstrap(values["weighed"], values[s])) for s in against}
    sure = dict(row)
    for score in ("weighed", "novel"):
        table = softmax(tables[score] / TEMPERATURE, present)
        right = table[np.arange(len(answers)), answers]
        error = calibration_error(table.max(axis=1), table.argmax(axis=1) == answers)
        sure |= {
            f"{score}: log loss": f"{-np.log(np.maximum(right, 1e-9)).mean():.3f}",
            f"{score}: calibration error": f"{error:.3f}",
            f"{score}: accuracy": f"{(table.argmax(axis=1) == answers).mean():.3f}",
        }
    assert np.isclose(map_at_k(ranks_of_answers(tables["novel"], answers, present)), values["novel"].mean())
    return scores, gaps, sure


def flags() -> argparse.ArgumentParser:
    made = parser(str(__doc__))
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("--sets", nargs="+", choices=SETS, default=["sciq_held_out", "llmse_science"])
    made.add_argument("--rows", choices=ROWS, default="odd", help="rows of the file to evaluate")
    made.add_argument("--most", type=int, default=2_000, help="maximum questions per set")
    made.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data", help="shared data")
    made.add_argument("--index", type=Path, help="index of Wikipedia articles, for sets without texts")
    made.add_argument("--runs", type=Path, default=Path("runs/open_book"), help="folder for the indexes")
    return made


def main() -> int:
    arguments = flags().parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    most = _QUICK_ROWS if arguments.quick else arguments.most
    tables: tuple[list[dict], ...] = ([], [], [])
    for name in arguments.sets:
        index = Index(index_of(name, arguments.data, arguments.runs, arguments.index))
        questions = questions_of(name, arguments.data, arguments.rows, most)
        found = judged(name, questions, index, Encoder.of_index(index.manifest.encoder))
        for rows, row in zip(tables, found):
            rows.append(row)
    note = f"{arguments.rows} rows of the files; sums are of scores standardised within a question."
    report("MAP@3 of every training-free score, texts indexed", tables[0], arguments.json, note)
    report("The default against other scores, paired", tables[1], None, "95 % bootstrap intervals.")
    report("How sure the default is", tables[2], None, "Log loss in nats; calibration error in ten bins.")
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
