"""Shared by the programs' command lines: old names of flags, counts, what has no effect."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from kaggle_rag.runtime.errors import ConfigError

ENCODER_HELP = (
    "current location of the index's encoder (same weights); NAME=FOLDER for a further one; repeatable"
)


class OldName(argparse.Action):
    """A flag under its old name: it still works, and a note gives the new name."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: Any = None
    ) -> None:
        new = "--" + (self.const or self.dest).replace("_", "-")
        print(f"note: the flag {option} is now called {new}; the old name still works", file=sys.stderr)
        setattr(namespace, self.dest, values)


def encoders_of(words: Sequence[str] | None) -> tuple[str | None, dict[str, str]]:
    """The default retriever's encoder and those of others, by name, from ``--encoder`` flags.

    Raises
    ------
    ConfigError : one of them is given twice.
    """
    default, others = None, {}
    for word in words or ():
        name, equals, location = word.partition("=")
        if (default is not None) if not equals else name in others:
            raise ConfigError(
                f"two locations for one encoder: {word!r}", where="--encoder",
                expected="FOLDER once, and NAME=FOLDER once for each further retriever",
            )  # fmt: skip
        if equals:
            others[name] = location
        else:
            default = word
    return default, others


def count_of(what: str) -> Callable[[str], int]:
    """The type of a flag that takes a number of ``what``, 1 or more."""

    def count(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {what}, 1 or more")
        return int(text)

    return count


def seed_number(text: str) -> int:
    """The type of a flag that takes a seed: 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed, a whole number of 0 or more")
    return int(text)


def note_idle(arguments: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Say on standard error which of these flags were given, though they have no effect: ``why``."""
    for name in names:
        if getattr(arguments, name) != arguments.default_of(name):
            print(f"note: --{name.replace('_', '-')} has no effect {why}", file=sys.stderr)
