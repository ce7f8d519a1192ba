"""``python -m training soup``: its flags, and from them a soup."""

from __future__ import annotations

import argparse
from pathlib import Path

from kaggle_rag.runtime.flags import note_idle

EXAMPLES = """\
examples:
  python -m training soup seed-0/ seed-1/ seed-2/ --out soup/
  python -m training soup seed-0/ seed-1/ --out soup/ --how slerp
  python -m training soup a/ b/ c/ --out soup/ --how greedy --questions held.csv --contexts-file held.parquet

Rankers that were trained from one backbone in one way, such as with other seeds or learning rates; full
weights or adapters. The soup is as fast as one of them. uniform: the mean of all; greedy: begins with the
best, and takes each next one unless the log loss of QUESTIONS rises; slerp: the middle of the arc between
two."""


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    parser.add_argument("rankers", type=Path, nargs="+", metavar="RANKER", help="folder of a trained ranker")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="folder to write")
    parser.add_argument(
        "--how", choices=("uniform", "greedy", "slerp"), default="uniform", help="default: uniform"
    )
    parser.add_argument(
        "--questions", type=Path, help="greedy: questions with answers that no ranker has learnt from"
    )
    parser.add_argument("--contexts-file", type=Path, help="greedy: their contexts.parquet")
    parser.add_argument("--device", help="greedy: cpu or cuda (default: cuda if available)")


def run(arguments: argparse.Namespace) -> int:
    from training.rankers.soup import Judge, soup

    if arguments.how != "greedy":
        note_idle(
            arguments, ("questions", "contexts_file", "device"),
            f"with --how {arguments.how}: only a greedy soup is judged",
        )  # fmt: skip
    judge = Judge(arguments.questions, arguments.contexts_file) if arguments.questions else None
    found = soup(arguments.rankers, arguments.out, arguments.how, judge, arguments.device)
    loss = f", log loss {found['log loss']:.4f}" if "log loss" in found else ""
    print(f"{arguments.out}: {arguments.how}, of {', '.join(found['ingredients'])}{loss}")
    return 0
