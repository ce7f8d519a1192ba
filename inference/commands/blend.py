"""``python -m inference blend``: its flags, and from them one submission of several runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from kaggle_rag.runtime.flags import count_of
from kaggle_rag.runtime.report import show

EXAMPLES = """\
examples:
  python -m inference blend mine.predictions/ theirs.predictions/ --out submission.csv
  python -m inference blend a.predictions/ b.predictions/ --weights 2 1 --rule ranks --out submission.csv

RUN is the folder that submit writes beside its submission, and is mixed as it was there. A question that a
run did not get to is decided by the others."""


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="NAME.predictions of submit")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="the submission to write")
    parser.add_argument("--weights", type=float, nargs="+", metavar="X", help="one per run (default: equal)")
    rules = ("probabilities", "ranks", "logits")
    parser.add_argument("--rule", choices=rules, default="probabilities", help="what of the runs is averaged")
    parser.add_argument(
        "--top", type=_letters, metavar="N|all",
        help="letters per prediction (default: as many as the first run wrote)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")


def _letters(text: str) -> int | str:
    return text if text == "all" else count_of("letters")(text)


def run(arguments: argparse.Namespace) -> int:
    from inference.blend import blend_runs

    report = blend_runs(arguments.runs, arguments.out, arguments.weights, arguments.rule, arguments.top)
    show(report, as_json=arguments.json)
    return 0
