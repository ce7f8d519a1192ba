"""``python -m inference demo``: its flags, and the demo."""

from __future__ import annotations

import argparse
from pathlib import Path


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="default: runs/demo")


def run(arguments: argparse.Namespace) -> int:
    from inference.demo import demo

    return demo(arguments.out)
