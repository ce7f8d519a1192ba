"""``python -m training phrasing``: what the way options are written tells, as a ranker for a solution."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from kaggle_rag.runtime.flags import seed_number
from kaggle_rag.runtime.words import counted

if TYPE_CHECKING:
    from kaggle_rag.data.questions import Questions
    from kaggle_rag.evaluation.metrics import Comparison, Interval

EXAMPLES = """\
examples:
  python -m training phrasing --questions train.csv
  python -m training phrasing --questions train.csv --exclude test.csv

It reads no context and no meaning: lengths, words shared with the question and with other options, words
like "never". The last line of the output is a ranker for solution.yaml. Left without weights there, as
{kind: phrasing}, it is fitted fold by fold by a cross-validation, which also finds how much it counts beside
other rankers; its --final writes both."""


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    parser.add_argument("--questions", type=Path, required=True, help="questions with answers")
    parser.add_argument(
        "--exclude", type=Path, nargs="+", default=[], metavar="PATH",
        help="question files: near-duplicates of their questions are not learnt from",
    )  # fmt: skip
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="of the estimate (default: 5)")
    parser.add_argument("--seed", type=seed_number, default=0, help="of the folds (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from kaggle_rag.rankers.phrasing import fit

    questions = _questions(arguments.questions, arguments.exclude)
    score, gain = _estimate(questions, arguments.folds, arguments.seed)
    weights = fit(questions)
    if arguments.json:
        print(json.dumps({
            "questions": len(questions), "map@3": score.mean, "low": score.low, "high": score.high,
            "against chance": gain.difference.mean, "weights": weights,
        }))  # fmt: skip
        return 0
    print(f"MAP@3 {score} out of fold on {counted(len(questions), 'question')}; against chance {gain}")
    for name, weight in weights.items():
        print(f"  {name:<10}{weight:>8.2f}")
    ranker = {"kind": "phrasing", "options": {"weights": weights}}
    line = yaml.safe_dump(ranker, default_flow_style=True, sort_keys=False, width=10_000).strip()
    print(f"in solution.yaml: rankers: [{line}]")
    return 0


def _questions(path: Path, exclude: list[Path]) -> Questions:
    """The questions with answers, without near-duplicates of those in other files."""
    from kaggle_rag.data.questions import NO_ANSWER, Questions
    from kaggle_rag.evaluation.duplicates import find_shared
    from kaggle_rag.runtime.errors import InputError

    questions = Questions.read(path)
    known = questions.answers != NO_ANSWER
    for other in exclude:
        known[[pair.left for pair in find_shared(questions, Questions.read(other))]] = False
    if not known.any():
        raise InputError("no question is left to learn from", where=path, expected="questions with answers")
    return questions.take(np.flatnonzero(known))


def _estimate(questions: Questions, folds: int, seed: int) -> tuple[Interval, Comparison]:
    """MAP@3 of questions that it did not learn from, and what it gains on equal probabilities.

    Of equal probabilities each order is as likely: their average precision is its mean over all.
    """
    from kaggle_rag.evaluation.metrics import average_precisions, bootstrap, chance_map_at_k, paired_bootstrap
    from kaggle_rag.rankers.phrasing import out_of_fold

    table = out_of_fold(questions, folds, seed)
    values = average_precisions(table, questions.answers, questions.present)
    chance = [chance_map_at_k([count]) for count in questions.present.sum(axis=1)]
    return bootstrap(values), paired_bootstrap(values, chance)
