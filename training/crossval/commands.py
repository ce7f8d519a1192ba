"""The command lines of cross-validate, compare and diagnose."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.flags import OldName, count_of, seed_number
from kaggle_rag.runtime.report import show
from training.crossval.settings import WITHHELD

CROSS_VALIDATE = """\
examples:
  python -m training cross-validate solution.yaml --folds 5 --against test.csv
  python -m training cross-validate solution.yaml --questions train.csv --contexts-file train.parquet
  python -m training cross-validate solution.yaml --fold 2       # each fold in its own session
  python -m training cross-validate solution.yaml --final        # then train on all questions

In solution.yaml a ranker says how it is trained; one without train is used as is:
  questions: train.csv
  contexts_file: contexts.parquet
  rankers:
    - kind: trained
      train: {command: multiple-choice, model: microsoft/deberta-v3-base, epochs: 2}
    - kind: similarity

Near-duplicates and questions about the same article stay in one fold. The rankers that predict a fold never
saw it: their best checkpoint is chosen on held_out (a tenth) of the other folds. OUT stores every step; if
killed, rerun the command to resume. OUT/oof.parquet has the predictions, OUT/metrics.json the metrics."""

COMPARE = """\
example:
  python -m training compare runs/deberta-base runs/deberta-large

Each run is compared with the first on the questions they share, identified by prompt and options."""

DIAGNOSE = """\
examples:
  python -m training diagnose runs/solution --out suspects.csv
  python -m training diagnose solution.yaml --out suspects.csv --withhold question

RUN is a folder written by cross-validate, or a solution.yaml to cross-validate first. The same rankers are
also trained without the input; what the input adds to the probability of the right option, in bits, shows
how hard a question is. --withhold is one of
{withheld}
The trainers' setting drop reads the list: label errors and contradictions are dropped, or given a
lower weight with drop_weight. RUN/information.parquet holds every question."""


DIAGNOSE = DIAGNOSE.format(withheld="\n".join(f"  {name:<9} {what}" for name, what in WITHHELD.items()))


_FOLDS, _ALIKE = 5, "words+vectors"


def cross_validate_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("solution", type=Path, metavar="SOLUTION", help="solution.yaml with its rankers")
    parser.add_argument("--questions", type=Path, metavar="PATH", help="use these instead of the solution's")
    parser.add_argument(
        "--contexts-file", type=Path, metavar="PATH", dest="contexts", help="their contexts.parquet"
    )
    parser.add_argument(
        "--contexts", type=Path, action=OldName, const="contexts_file", help=argparse.SUPPRESS
    )
    parser.add_argument("--out", type=Path, metavar="PATH", help="folder (default: runs/NAME of SOLUTION)")
    _fold_flags(parser)
    parser.add_argument("--fold", type=int, metavar="N", help="train only this fold; others may exist")
    parser.add_argument(
        "--against", type=Path, nargs="+", default=[], metavar="FILE",
        help="question files to check for repeated questions, for the leak report",
    )  # fmt: skip
    parser.add_argument("--stack", choices=("logistic", "boosted"), help="also stack the rankers")
    parser.add_argument(
        "--calibration", choices=("temperature", "vector"), default="temperature",
        help="what is fitted to make the rankers of a blend as sure as they are right: a temperature, or a "
        "factor and a bias of each letter, against a ranker that favours some (default: temperature)",
    )  # fmt: skip
    parser.add_argument(
        "--final", action="store_true",
        help="then train the rankers on all questions, and write OUT/solution.yaml for inference submit",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="report what it would need; write nothing")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")


def _fold_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folds", type=int, default=_FOLDS, metavar="N", help="number of folds (default: 5)")
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="seed of the folds (default: 0)"
    )
    parser.add_argument(
        "--alike", choices=(_ALIKE, "words"), default=_ALIKE,
        help="how near-duplicates are detected (default: words+vectors, which embeds every question)",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help="a setting of SOLUTION, such as blend=ranks; its rankers are changed in the file",
    )  # fmt: skip
    parser.add_argument(
        "--limit", action="append", metavar="N", dest="changes",
        type=lambda text: f"limit={count_of('questions')(text)}",
        help="for a trial: only the first N questions",
    )  # fmt: skip


def compare_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders written by cross-validate")
    parser.add_argument(
        "--ranker", default="blend", help="compare this ranker of each run (default: the blend)"
    )
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def diagnose_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of cross-validate, or solution.yaml")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="the list: .csv or .parquet")
    parser.add_argument("--withhold", choices=list(WITHHELD), help="see below")
    parser.add_argument("--ranker", help="judge by this ranker (default: the blend)")
    parser.add_argument("--worst", type=int, default=5, metavar="N", help="questions to show per reason")
    _fold_flags(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run_cross_validate(arguments: argparse.Namespace) -> int:
    from training.crossval.run import cross_validate, dry_run
    from training.crossval.settings import CrossValidationSettings

    settings = CrossValidationSettings(
        arguments.solution, arguments.questions, arguments.contexts, arguments.out, arguments.folds,
        arguments.fold, arguments.seed, arguments.alike, tuple(arguments.against), arguments.stack,
        tuple(arguments.changes), arguments.final, arguments.calibration,
    )  # fmt: skip
    report = dry_run(settings) if arguments.dry_run else cross_validate(settings)
    show(report, as_json=arguments.json)
    return 0


def run_compare(arguments: argparse.Namespace) -> int:
    from training.crossval.compare import compare

    show(compare(arguments.runs, arguments.ranker), as_json=arguments.json)
    return 0


def run_diagnose(arguments: argparse.Namespace) -> int:
    from kaggle_rag.evaluation.difficulty import write_suspects
    from training.crossval.diagnosis import check_out, find_suspects, settings_of
    from training.crossval.settings import CrossValidationSettings

    check_out(arguments.out)
    if arguments.run.is_dir():
        if arguments.folds != _FOLDS or arguments.seed or arguments.alike != _ALIKE or arguments.changes:
            raise ConfigError(
                "a folder of a cross-validation has its own folds, seed and settings", where=arguments.run,
                cure="remove --folds, --seed, --alike, --limit and --set, or give the solution.yaml",
            )  # fmt: skip
        settings = settings_of(arguments.run)
    else:
        settings = CrossValidationSettings(
            arguments.run, folds=arguments.folds, seed=arguments.seed, alike=arguments.alike,
            changes=tuple(arguments.changes),
        )  # fmt: skip
    report = find_suspects(settings, arguments.withhold, arguments.ranker)
    write_suspects(arguments.out, report.questions, report.suspects)
    show(dataclasses.replace(report, worst=arguments.worst), as_json=arguments.json)
    return 0
