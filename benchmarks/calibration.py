"""What calibration adds to a blend of a trained ranker, the training-free score and BM25, over three seeds.

The trained rankers are the plain ones of `benchmarks.what_helps`, which trains them if they are not there.
Calibrations and weights of a fold are fitted on the four others of the questions that are judged.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common import parser, report
from benchmarks.ranker_training import TASKS
from benchmarks.what_helps import PLAIN, Bench, bench_of, run_flags, trained
from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.ensembling.blending import fit_weights
from kaggle_rag.evaluation.calibration import calibration_error
from kaggle_rag.evaluation.metrics import average_precisions, bootstrap, log_losses, paired_over_seeds
from kaggle_rag.evaluation.scaling import CALIBRATIONS, cross_fitted
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.rankers.similarity import SimilarityRanker
from kaggle_rag.runtime.errors import run_program

_FOLDS = 5
NONE = "none"


def training_free(bench: Bench, questions: Questions) -> list[Probabilities]:
    """The default score and BM25, ``(n, k)`` each."""
    contexts, encoder = read_contexts(bench.judged_contexts, questions), Encoder(DEFAULT_ENCODER)
    tables = []
    for score in ("weighed", "bm25"):
        with SimilarityRanker(encoder, score=score) as ranker:
            tables.append(ranker.probabilities(questions, contexts))
    return tables


def blended(
    how: str, tables: Sequence[Probabilities], questions: Questions, folds: np.ndarray
) -> Probabilities:
    """The blend of each fold as the others say."""
    answers, present = questions.answers, questions.present
    if how != NONE:
        tables = [cross_fitted(table, answers, present, folds, CALIBRATIONS[how]) for table in tables]
    return fit_weights(tables, answers, present, folds=folds).held_out


def rows_of(bench: Bench) -> list[dict[str, Any]]:
    """A row a calibration, against none."""
    questions = Questions.read(bench.judged)
    answers, present = questions.answers, questions.present
    folds = np.random.default_rng(0).permutation(len(questions)) % _FOLDS
    free = training_free(bench, questions)
    seeds = [bench.answers(folder) for folder in trained(bench, PLAIN)]
    made = {
        how: [blended(how, [*free, seed], questions, folds) for seed in seeds]
        for how in (NONE, *CALIBRATIONS)
    }
    values = {
        how: np.stack([average_precisions(table, answers, present) for table in tables])
        for how, tables in made.items()
    }
    losses = {how: np.stack([log_losses(table, answers) for table in tables]) for how, tables in made.items()}
    return [
        {
            "calibration": how, "MAP@3": str(bootstrap(values[how].mean(axis=0))),
            "against none": "" if how == NONE else str(paired_over_seeds(values[how], values[NONE])),
            "log loss": f"{losses[how].mean():.3f}",
            "log loss against none": "" if how == NONE else str(paired_over_seeds(losses[how], losses[NONE])),
            "ECE": str(calibration_error(made[how][0], answers, present)),
        }
        for how in made
    ]  # fmt: skip


def main() -> int:
    flags = parser(str(__doc__))
    flags.formatter_class = argparse.RawDescriptionHelpFormatter
    flags.add_argument("task", choices=TASKS)
    run_flags(flags)
    arguments = flags.parse_args()
    bench = bench_of(arguments)
    note = (
        f"{len(Questions.read(bench.judged)):,} questions, {_FOLDS} folds, {bench.seeds} seeds of the "
        "trained ranker. Differences over seeds and questions (Student's t); ECE of the first seed. 95 % "
        "intervals."
    )
    report(f"Calibrated blends: {bench.judged.stem}", rows_of(bench), arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
