"""``python -m training select``: its flags, and from them a selection."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.runtime.flags import count_of, note_idle, seed_number
from kaggle_rag.runtime.report import show

EXAMPLES = """\
examples:
  python -m training select openbookqa.csv sciq.csv --specifications examples.csv --budget 2000 \\
      --out chosen.csv
  python -m training select all.csv --specifications topics.txt --how round-robin --share 0.2 \\
      --exclude dev.csv --out chosen.csv
  python -m training select all.csv --data-map ranker/data_map.parquet --keep ambiguous --share 0.33 \\
      --out ambiguous.csv

A specification says what the test asks: a question of a table (its prompt and options), or a line of a .txt
file. Every question of the pool is ranked for each specification, and the rankings become one choice:
  rrf          reciprocal rank fusion: what many of them rank high
  round-robin  specifications take turns, each the best question that is left: all are covered alike
  best         what any of them ranks highest
  mean         the highest mean score: what is nearest to all of them together
  random       a draw of the same pool, for comparison

Near-duplicates of the specifications and of excluded questions are left out, and questions that repeat
another. OUT has the columns of the pool, the best first; OUT's NAME.why.csv says which specification chose
each question, and with what score. Contexts of one table serve any selection from it. Labels that contradict
a specification, or another question of the pool, are listed; --suspects writes those of the selection as a
list for the setting drop.

A data map is what a training with data_map: true said of its questions (RANKER/data_map.parquet, or what
diagnose makes of those of all folds, RUN/information.parquet): ambiguous ones change most from epoch to
epoch, hard ones (with the label errors among them) stay improbable, easy ones are soon certain."""


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    parser.add_argument(
        "pool", type=Path, nargs="+", metavar="QUESTIONS", help="tables with the same columns"
    )
    parser.add_argument(
        "--specifications", type=Path, nargs="+", default=[], metavar="FILE",
        help="example questions (a table), or sentences (.txt, one a line)",
    )  # fmt: skip
    parser.add_argument("--data-map", type=Path, metavar="FILE", help="select by a data map instead")
    parser.add_argument(
        "--keep", choices=("ambiguous", "hard", "easy"), help="which questions of the data map"
    )
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--budget", type=count_of("questions"), metavar="N", help="questions to select")
    size.add_argument(
        "--share", type=float, metavar="X", help="share of the questions that are left to select from"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="table to write")
    parser.add_argument(
        "--how", choices=("rrf", "round-robin", "best", "mean", "random"), default="rrf",
        help="how the specifications' rankings become one (default: rrf)",
    )  # fmt: skip
    parser.add_argument(
        "--by", choices=("vectors", "words"), default="vectors",
        help="rank by the encoder's vectors, or by words (BM25) (default: vectors)",
    )  # fmt: skip
    parser.add_argument(
        "--least",
        type=float,
        default=0.0,
        metavar="X",
        help="a question matches above this score (default: 0)",
    )
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, help=f"default: {DEFAULT_ENCODER}")
    parser.add_argument("--device", help="cpu or cuda (default: cuda if available)")
    parser.add_argument(
        "--exclude", type=Path, nargs="+", default=[], metavar="FILE",
        help="question files whose near-duplicates are left out",
    )  # fmt: skip
    parser.add_argument(
        "--suspects",
        type=Path,
        metavar="FILE",
        help="write the selected questions with contradicted labels: .csv",
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, help="of the turns and of random draws (default: 0)"
    )
    parser.add_argument("--dry-run", action="store_true", help="report what would be left; write nothing")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    from training.selection.select import SelectionSettings, select

    _note_idle(arguments)
    given = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(SelectionSettings)}
    several = {key: tuple(value) for key, value in given.items() if isinstance(value, list)}
    settings = SelectionSettings(**{**given, **several})
    show(select(settings, dry=arguments.dry_run), as_json=arguments.json)
    return 0


def _note_idle(arguments: argparse.Namespace) -> None:
    ranking = ("by", "least", "encoder", "device")
    if arguments.data_map:
        note_idle(arguments, ("how", *ranking, "seed"), "with --data-map: the map ranks the questions")
        return
    if arguments.how == "random":
        note_idle(arguments, ranking, "with --how random: nothing is ranked")
    elif arguments.by == "words":
        note_idle(arguments, ("encoder", "device"), "with --by words: nothing is encoded")
    if arguments.how not in ("random", "round-robin"):
        note_idle(arguments, ("seed",), f"with --how {arguments.how}: nothing is drawn")
