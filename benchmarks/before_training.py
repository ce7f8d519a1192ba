"""What helps before any model is trained: how options are written, and open books beside the articles.

`phrasing` (`kaggle_rag.rankers.phrasing`) learns on one half of a set in a second, and is blended with the
training-free score as the same half says, each of its folds answered by what the others taught. For the sets
without texts of their own, the second table adds the texts of the open books (OpenBookQA's facts, SciQ's
paragraphs, QASC's facts) to the Wikipedia articles in one index. Both are judged on the other halves.
``--rankers`` are answered by with the same contexts, and blended at equal weights, for what they learnt from
may be what the blend is fitted on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.common import corpus_of_texts, kept_answers, kit, parser, report
from benchmarks.mixtures import Mixture
from benchmarks.open_book import SETS, index_of, texts_of
from benchmarks.ranker_training import HERE, Part
from kaggle_rag.data.contexts import QuestionContexts, read_contexts
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.ensembling.blending import blend
from kaggle_rag.evaluation.metrics import average_precisions, bootstrap, paired_bootstrap
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.rankers.phrasing import PhrasingRanker, out_of_fold
from kaggle_rag.rankers.similarity import SimilarityRanker
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.runtime.files import sha256

PAIRS = {
    "openbookqa": (Part("openbookqa_train", most=1_500), Part("openbookqa_dev")),
    "sciq": (Part("sciq", most=1_000), Part("sciq_held_out")),
    "llmse": (Part("llmse_science", "even"), Part("llmse_science", "odd")),
    "arc_challenge": (Part("arc_challenge_train", "even"), Part("arc_challenge_train", "odd")),
    "extra": (Part("extra_6k", most=1_000), Part("extra_500")),
    "mmlu_stem": (Part("mmlu_stem_even", "even"), Part("mmlu_stem_even", "odd")),
}
BOOKS = ("openbookqa_dev", "sciq", "qasc")
ARTICLES = "wiki_vital/articles.parquet"
_QUICK = 40
Values = npt.NDArray[np.float64]


class Half(NamedTuple):
    """One half of a set, and its contexts."""

    questions: Questions
    contexts: list[QuestionContexts]
    found: Path

    @classmethod
    def made(cls, part: Part, index: Path, kind: str, told: argparse.Namespace) -> Half:
        table = part.written(told.data, told.runs, _QUICK if told.quick else None)
        out = table.with_name(f"{table.stem}{kind}.parquet")
        kit(
            "inference", "contexts", "--questions", table, "--index", index, "--out", out,
            "--set", "contexts.per=option", "--set", "contexts.tokens=64",
        )  # fmt: skip
        questions = Questions.read(table)
        return cls(questions, read_contexts(out, questions), out)

    def values(self, table: Probabilities) -> Values:
        return average_precisions(table, self.questions.answers, self.questions.present)


def free(half: Half, encoder: Encoder) -> Probabilities:
    """The training-free score's probabilities, ``(n, k)``."""
    with SimilarityRanker(encoder) as ranker:
        return ranker.probabilities(half.questions, half.contexts)


def phrasing(learnt: Questions, asked: Questions) -> Probabilities:
    """Probabilities of how options are written, ``(n, k)``."""
    return PhrasingRanker(**PhrasingRanker.fitted(learnt)).probabilities(asked, None)


def together(learnt: Half, judged: Half, encoder: Encoder) -> dict[str, Probabilities]:
    """Tables of the judged half: each score alone, and both as the learnt half says."""
    mixture = Mixture.fitted([free(learnt, encoder), out_of_fold(learnt.questions)], learnt.questions)
    written = phrasing(learnt.questions, judged.questions)
    tables = {"training-free": free(judged, encoder), "phrasing": written}
    return {**tables, "together": mixture.of([*tables.values()], judged.questions.present)}


def articles_and_books(told: argparse.Namespace) -> Path:
    """One index of the Wikipedia articles and of the texts of all open books."""
    corpus, index = told.runs / "articles-and-books", told.runs / "articles-and-books.index"
    corpus.mkdir(exist_ok=True)
    for name in BOOKS:
        corpus_of_texts(texts_of(name, told.data), corpus / f"{name}.jsonl")
    articles = corpus / "articles.parquet"
    if not articles.exists():
        articles.symlink_to((told.data / ARTICLES).resolve())
    # What the given index has is not encoded again.
    kit("wiki_index", "build", corpus, index, "--reuse", told.index, *(["--limit", 20] if told.quick else []))
    return index


def row_of(name: str, judged: Half, tables: Mapping[str, Values]) -> dict[str, Any]:
    """A set's line: MAP@3 of each, and what all but the first gain on it."""
    (first, base), *others = tables.items()
    row = {"judged on": f"{name}, {len(judged.questions):,}", first: str(bootstrap(base))}
    for kind, values in others:
        row |= {kind: f"{values.mean():.3f}", f"{kind}, gain": str(paired_bootstrap(values, base))}
    return row


def of_rankers(told: argparse.Namespace, judged: Half, others: Probabilities) -> Values:
    """The mean over rankers of each one's score, blended with another table at equal weights."""
    questions = judged.questions
    name = f"{judged.found.stem}-{sha256(judged.found)[:8]}"
    tables = [kept_answers(each, questions, judged.contexts, name, told.precision) for each in told.rankers]
    blends = [blend([each, others], [1.0, 1.0], questions.present) for each in tables]
    return np.asarray(np.mean([judged.values(each) for each in blends], axis=0))


class Tables:
    """The rows of both tables, set by set."""

    def __init__(self, told: argparse.Namespace) -> None:
        self.told, self.encoder = told, Encoder(DEFAULT_ENCODER)
        self.books = articles_and_books(told) if told.index else None
        self.written: list[dict[str, Any]] = []
        self.read: list[dict[str, Any]] = []

    def add(self, name: str, learnt: Part, judged: Part) -> None:
        """A row of the first table; one of the second for a set without texts of its own."""
        index = index_of(judged.name, self.told.data, self.told.runs, self.told.index)
        halves = [Half.made(part, index, "", self.told) for part in (learnt, judged)]
        found = together(*halves, self.encoder)
        values = {kind: halves[1].values(table) for kind, table in found.items()}
        self.written.append(row_of(name, halves[1], values))
        if index != self.told.index or self.books is None:
            return
        halves = [Half.made(part, self.books, "-with-books", self.told) for part in (learnt, judged)]
        found = together(*halves, self.encoder)
        values = {
            "articles": values["training-free"],
            "and books": halves[1].values(found["training-free"]),
            "and phrasing": halves[1].values(found["together"]),
        }
        if self.told.rankers:
            values["and trained rankers"] = of_rankers(self.told, halves[1], found["together"])
        self.read.append(row_of(name, halves[1], values))


def main() -> int:
    flags = parser(str(__doc__))
    flags.formatter_class = argparse.RawDescriptionHelpFormatter
    flags.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data", help="shared data")
    flags.add_argument("--index", type=Path, help="index of the articles; without it, sets with own texts")
    flags.add_argument("--rankers", type=Path, nargs="+", default=[], metavar="RANKER", help="one a seed")
    flags.add_argument("--precision", choices=("fp32", "bf16"), help="of their answers (default: fp32)")
    flags.add_argument("--runs", type=Path, default=Path("runs/before_training"), help="folder of outputs")
    told = flags.parse_args()
    told.runs = told.runs / "quick" if told.quick else told.runs
    told.runs.mkdir(parents=True, exist_ok=True)
    tables = Tables(told)
    for name, (learnt, judged) in PAIRS.items():
        own = SETS[judged.name]
        # The facts of OpenBookQA are encoded in seconds.
        if own.book or (own.texts and not told.quick) or told.index:
            tables.add(name, learnt, judged)
    note = "Gains on the training-free score. 95 % intervals."
    report("How options are written", tables.written, told.json, note)
    if tables.read:
        note = "Each column has what those before it have; gains on the articles alone. 95 % intervals."
        report("Open books beside the articles", tables.read, None, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
