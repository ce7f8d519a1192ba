"""The flags that several commands share, and the settings that they make."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from kaggle_rag.runtime.flags import ENCODER_HELP, encoders_of

_FLAGS = ("questions", "index", "contexts_file", "out", "encoder", "encoders", "device", "top", "limit")


def solution_flags(
    parser: argparse.ArgumentParser, *, files: bool = True, index: bool = True, out: str = "the file to write"
) -> None:
    """Add the flags of `Solution`; ``files``: those of its questions and of ``out`` that is written too.

    Without ``index`` there is no flag of the index, for a command that searches none.
    """
    parser.add_argument("--config", metavar="YAML", help="solution.yaml; flags override it")
    if index:
        parser.add_argument("--index", help="folder written by python -m wiki_index build")
    parser.add_argument("--encoder", action="append", metavar="FOLDER", help=ENCODER_HELP)
    parser.add_argument("--device", help="cpu or cuda (default: cuda if available)")
    parser.add_argument("--ram", metavar="SIZE", help="refuse a stage that would need more, e.g. 13GB")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, e.g. contexts.tokens=512"
    )
    if files:
        parser.add_argument("--questions", help="test.csv, .parquet or .jsonl")
        parser.add_argument("--out", help=out)
        parser.add_argument("--limit", metavar="N", help="for a trial: only the first N questions")


def solution_of(arguments: argparse.Namespace) -> tuple[Any, list[Any]]:
    """The valid settings, and the faults of the others."""
    from kaggle_rag.config import load_partly

    flags: dict[str, Any] = {name: getattr(arguments, name, None) for name in _FLAGS}
    flags["encoder"], flags["encoders"] = encoders_of(arguments.encoder)
    # Flags are text, but these settings may be numbers.
    for name in ("top", "limit"):
        if (text := str(flags[name])).isdecimal():
            flags[name] = int(text)
    limits = {"ram": arguments.ram, "time": getattr(arguments, "time", None)}
    changes = list(arguments.set) + [f"limits.{key}={value}" for key, value in limits.items() if value]
    return load_partly(arguments.config, changes, flags)


def note_unused(solution: Any, arguments: argparse.Namespace) -> None:
    """Say on standard error which settings this command does not use."""
    from inference.idle import idle

    typed = [change.partition("=")[0].strip() for change in arguments.set]
    blind = getattr(arguments, "without_contexts", False)
    for note in idle(solution, arguments.command, typed=typed, without_contexts=blind):
        print("note: " + note, file=sys.stderr)
