"""``python -m inference score``: its flags, and from them the scores."""

from __future__ import annotations

import argparse
from pathlib import Path

from kaggle_rag.runtime.flags import count_of
from kaggle_rag.runtime.report import show


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    parser.add_argument("submission", type=Path, metavar="SUBMISSION")
    parser.add_argument(
        "solution", type=Path, metavar="QUESTIONS", help="questions with answers, or a table of id and answer"
    )
    parser.add_argument("--limit", type=count_of("questions"), metavar="N", help="score only the first N")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from inference.score import score

    report = score(arguments.submission, arguments.solution, arguments.limit)
    show(report, as_json=arguments.json)
    return 0
