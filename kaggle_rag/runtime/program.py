"""A program of several commands: one table says each command's help, flags, examples and function."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

from kaggle_rag.runtime.errors import EXIT_USER_ERROR


def _no_flags(parser: argparse.ArgumentParser) -> None:
    """For a command that takes none."""


class Command(NamedTuple):
    """One command.

    Attributes
    ----------
    summary : a line for the list of commands.
    run : does it; returns the exit code.
    flags : adds its flags to a parser.
    examples : what ``--help`` shows below the flags.
    """

    summary: str
    run: Callable[[argparse.Namespace], int]
    flags: Callable[[argparse.ArgumentParser], None] = _no_flags
    examples: str = ""


class Program(NamedTuple):
    """A program by its name (``python -m NAME``), a description, examples, and its commands by name."""

    name: str
    description: str
    examples: str
    commands: Mapping[str, Command]

    def parser(self) -> argparse.ArgumentParser:
        raw = argparse.RawDescriptionHelpFormatter
        parser = argparse.ArgumentParser(
            prog=f"python -m {self.name}", description=self.description, epilog=self.examples,
            formatter_class=raw,
        )  # fmt: skip
        commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        for name, command in self.commands.items():
            own = commands.add_parser(
                name, help=command.summary, description=command.summary, epilog=command.examples,
                formatter_class=raw,
            )  # fmt: skip
            command.flags(own)
            # For `kaggle_rag.runtime.flags.note_idle`.
            own.set_defaults(default_of=own.get_default)
        return parser

    def main(self) -> int:
        """Run the command of ``sys.argv``; without any, list them."""
        parser = self.parser()
        if not sys.argv[1:]:
            parser.print_help(sys.stderr)
            return EXIT_USER_ERROR
        arguments = parser.parse_args()
        return self.commands[arguments.command].run(arguments)
