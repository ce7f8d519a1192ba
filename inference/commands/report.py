"""``python -m inference report``: its flags, and from them a page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kaggle_rag.runtime.flags import count_of
from kaggle_rag.runtime.report import show

EXAMPLES = """\
examples:
  python -m inference report submission.predictions --questions train.csv --out report.html
  python -m inference report runs/solution --questions train.csv --contexts-file contexts.parquet
  python -m inference report new.predictions --questions train.csv --compare old.predictions

The page needs no network, and sends nothing anywhere."""


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="NAME.predictions beside a submission, or a cross-validation"
    )
    parser.add_argument("--questions", type=Path, required=True, help="its questions (with answers: scores)")
    parser.add_argument("--contexts-file", type=Path, help="the contexts.parquet that it was given")
    parser.add_argument(
        "--compare", type=Path, metavar="OTHER", help="another run of the same questions, shown beside it"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("report.html"), help="the page to write (default: report.html)"
    )
    parser.add_argument("--limit", type=count_of("questions"), metavar="N", help="show only the first N")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from inference.report.build import report

    found = report(
        arguments.run, arguments.questions, arguments.contexts_file, arguments.out, arguments.limit,
        arguments.compare,
    )  # fmt: skip
    show(found, as_json=arguments.json)
    print(f"{arguments.out}: open it in a browser", file=sys.stderr)
    return 0
