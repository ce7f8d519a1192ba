"""One science ranker for all question sets, against rankers that were trained on one set alone.

The open-book sets are read with the texts that the retriever finds among all of theirs, never with their own
ones; the parts of ARC and the generated exam questions with the index of Wikipedia articles, where one is
given. `training mix` leaves out near-duplicates of what is judged, and draws sets by temperature. Everything
is judged on other halves, beside the training-free score and its blend with the science ranker: temperatures,
weights and the rule of blending are chosen by the log loss of the held-out questions. A killed run resumes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common import kept_answers, kit, parser, report, seeds_flag
from benchmarks.mixtures import Mixture
from benchmarks.open_book import SETS, index_of
from benchmarks.ranker_training import HERE, Part
from benchmarks.what_helps import changes_of, in_words, training_flags
from kaggle_rag.data.contexts import QuestionContexts, read_contexts
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.metrics import average_precisions, bootstrap, paired_over_seeds
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.rankers.similarity import SimilarityRanker
from kaggle_rag.rankers.trained import TrainedRanker
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.runtime.settings import read_settings
from training.rankers.settings import MultipleChoiceRun
from training.rankers.splits import split_questions

CONFIG = HERE / "ranker_science.yaml"
LEARNT = {
    "openbookqa": Part("openbookqa_train"),
    "sciq": Part("sciq", most=3_000),
    "llmse": Part("llmse_science", "even"),
    "llmse_general": Part("llmse_general"),
    "extra": Part("extra_6k", most=3_000),
    "arc_easy": Part("arc_easy_train", "even"),
    "arc_challenge": Part("arc_challenge_train", "even"),
}
JUDGED = {
    "openbookqa": Part("openbookqa_dev"),
    "sciq": Part("sciq_held_out"),
    "llmse": Part("llmse_science", "odd"),
    "arc_challenge": Part("arc_challenge_train", "odd"),
}
_QUICK = 24
Values = npt.NDArray[np.float64]


class Files:
    """The tables and contexts of the sets, and the rankers that are trained on them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.folder = arguments.runs / ("quick" if arguments.quick else "science")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.learnt, self.judged = self._made(LEARNT), self._made(JUDGED)

    def _made(self, parts: dict[str, Part]) -> dict[str, tuple[Path, Path]]:
        """Table and contexts of each set that has texts."""
        given, made = self.arguments, {}
        for name, part in parts.items():
            book = SETS[part.name]
            # The facts of OpenBookQA are encoded in seconds.
            if not (book.book or (book.texts and not given.quick) or given.index):
                continue
            table = part.written(given.data, self.folder, _QUICK if given.quick else None)
            contexts = table.with_suffix(".parquet")
            index = index_of(part.name, given.data, self.folder, given.index)
            kit(
                "inference", "contexts", "--questions", table, "--index", index, "--out", contexts,
                "--set", "contexts.per=option", "--set", "contexts.tokens=64",
            )  # fmt: skip
            made[name] = table, contexts
        return made

    def mixed(self, names: list[str], out: str) -> tuple[Path, Path]:
        """One table and contexts of the sets, without near-duplicates of what is judged."""
        out = f"{out}-of-{self.arguments.most}"
        table, contexts = self.folder / f"{out}.csv", self.folder / f"{out}.mixed.parquet"
        if not table.exists():
            chosen = [self.learnt[name] for name in names]
            kit(
                "training", "mix", *(path for path, _ in chosen), "--contexts", *(c for _, c in chosen),
                "--out", table, "--contexts-out", contexts, "--most", self.arguments.most,
                "--exclude", *(path for path, _ in self.judged.values()),
            )  # fmt: skip
        return table, contexts

    def rankers(self, names: list[str], out: str) -> list[Path]:
        """A ranker a seed, trained on the mix of these sets."""
        table, contexts = self.mixed(names, out)
        made = []
        for seed in range(self.arguments.seeds):
            made.append(self.folder / f"{table.stem}-{seed}")
            kit(
                "training", "multiple-choice", "--config", CONFIG, "--questions", table, "--contexts-file",
                contexts, "--seed", seed, "--out", made[-1],
                *(word for key, value in changes_of(self.arguments).items() for word in (f"--{key}", value)),
            )  # fmt: skip
        return made

    def read(self, table: Path, contexts: Path) -> tuple[Questions, list[QuestionContexts]]:
        """The questions that judge, and their contexts."""
        questions = Questions.read(table)
        count = min(len(questions), self.arguments.judged or len(questions))
        return questions.take(range(count)), read_contexts(contexts, questions)[:count]

    def answers(self, ranker: Path, table: Path, contexts: Path) -> Probabilities:
        """Probabilities of these questions, kept beside the ranker."""
        questions, own = self.read(table, contexts)
        name = f"{table.stem}-{len(questions)}"
        return kept_answers(ranker, questions, own, name, self.arguments.precision)

    def mixture(self, ranker: Path, seed: int, table: Path, contexts: Path, encoder: Encoder) -> Mixture:
        """Of the training-free score and a ranker, by the questions that its training held out."""
        given = {"questions": table, "contexts_file": contexts, "out": ranker, "seed": seed}
        told = read_settings(MultipleChoiceRun, CONFIG, (), given)
        _, held = split_questions(told)
        with TrainedRanker(str(ranker), precision=self.arguments.precision) as opened:
            trained = opened.probabilities(held.questions, held.contexts)
        free = _training_free(held.questions, held.contexts, encoder)
        return Mixture.fitted([free, trained], held.questions)


def _training_free(questions: Questions, contexts: Any, encoder: Encoder) -> Probabilities:
    with SimilarityRanker(encoder) as ranker:
        return ranker.probabilities(questions, contexts)


def rows_of(files: Files) -> list[dict[str, Any]]:
    """A row a judged set: the science ranker against the training-free score and that of one set alone."""
    encoder = Encoder(DEFAULT_ENCODER)
    science = files.rankers([*files.learnt], "science")
    mixed = files.mixed([*files.learnt], "science")
    mixtures = [files.mixture(each, seed, *mixed, encoder) for seed, each in enumerate(science)]
    rows = []
    for name, (table, contexts) in files.judged.items():
        questions, own = files.read(table, contexts)
        free = _training_free(questions, own, encoder)
        tables = [files.answers(each, table, contexts) for each in science]
        blends = [mixture.of([free, each], questions.present) for each, mixture in zip(tables, mixtures)]
        values = {"free": [free], "all": tables, "blend": blends}
        if not files.arguments.no_alone:
            only = files.rankers([name], f"only-{name}")
            values["alone"] = [files.answers(each, table, contexts) for each in only]
        rows.append(_row(name, questions, values))
    return rows


def _row(name: str, questions: Questions, tables: dict[str, list[Probabilities]]) -> dict[str, Any]:
    values = {
        kind: np.stack([average_precisions(each, questions.answers, questions.present) for each in some])
        for kind, some in tables.items()
    }
    # The training-free score has no seed: the same one stands beside each.
    free = np.repeat(values["free"], len(values["blend"]), axis=0)
    row = {
        "judged on": f"{name}, {len(questions):,}",
        "training-free": f"{values['free'].mean():.3f}",
        "on all sets": str(bootstrap(values["all"].mean(axis=0))),
        "blend with training-free": f"{values['blend'].mean():.3f}",
        "blend against training-free": str(paired_over_seeds(values["blend"], free)),
    }
    if (alone := values.get("alone")) is not None:
        row["trained on it alone"] = f"{alone.mean():.3f}"
        row["on all sets against alone"] = str(paired_over_seeds(values["all"], alone))
    return row


def main() -> int:
    flags = parser(str(__doc__))
    flags.formatter_class = argparse.RawDescriptionHelpFormatter
    flags.add_argument("--most", type=int, default=8_000, metavar="N", help="questions drawn (default: 8000)")
    seeds_flag(flags)
    training_flags(flags)
    flags.add_argument("--no-alone", action="store_true", help="train no rankers of one set alone")
    flags.add_argument("--judged", type=int, metavar="N", help="judge by the first N of a set (default: all)")
    flags.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data", help="shared data")
    flags.add_argument("--index", type=Path, help="index of Wikipedia articles; without it, ARC is left out")
    flags.add_argument("--runs", type=Path, default=Path("runs/science"), help="folder for all outputs")
    arguments = flags.parse_args()
    if arguments.quick:
        arguments.most, arguments.seeds = 40, 2
    files = Files(arguments)
    note = (
        f"At most {arguments.most:,} questions of {', '.join(files.learnt)}; {arguments.seeds} seeds"
        f"{in_words(changes_of(arguments))}. "
        "Differences over seeds and questions (Student's t). 95 % intervals."
    )
    report("One science ranker", rows_of(files), arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
