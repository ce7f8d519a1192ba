"""``python -m inference ask``: its flags, and from them a question, a session, or a page."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from inference.arguments import note_unused, solution_flags, solution_of
from kaggle_rag.runtime.errors import EXIT_USER_ERROR, ConfigError, InputError

EXAMPLES = """\
examples:
  python -m inference ask --index index/ --prompt "Which is larger?" --option Phobos --option Deimos
  python -m inference ask --config solution.yaml            # goes on asking until an empty line
  python -m inference ask --config solution.yaml --web      # in a browser of this machine

--web shows every option by every ranker, the evidence, and the sentence that supports the answer. Only this
machine can reach the page, and only with its address; Ctrl-C ends it."""


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    solution_flags(parser, files=False)
    parser.add_argument("--prompt", help="the question (default: read questions from standard input)")
    parser.add_argument("--option", action="append", default=[], help="an answer option; repeatable")
    parser.add_argument("--web", action="store_true", help="ask in a page, at an address that is printed")
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="of that address (default: one that is free)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from inference.checks import check_ask

    solution, faults = solution_of(arguments)
    faults += _contradictions(arguments)
    check_ask(solution, faults)
    note_unused(solution, arguments)
    if arguments.web:
        from inference.asking.server import serve

        serve(solution, arguments.port)
        return 0
    return _in_terminal(solution, arguments)


def _contradictions(arguments: argparse.Namespace) -> list[ConfigError]:
    given = {"--prompt": arguments.prompt, "--option": arguments.option, "--json": arguments.json}
    if arguments.web:
        return [
            ConfigError(f"--web and {flag} contradict each other", cure="remove one of them")
            for flag, value in given.items()
            if value
        ]
    if arguments.port:
        return [ConfigError("--port without --web", cure="add --web, or remove --port")]
    return []


def _in_terminal(solution: Any, arguments: argparse.Namespace) -> int:
    """Print each answer; the exit code tells whether a question could not be read."""
    from inference.asking.typed import read_questions

    session, code = None, 0
    for question in read_questions(arguments.prompt, arguments.option):
        if isinstance(question, InputError):
            print(f"error: {question}", file=sys.stderr)
            code = EXIT_USER_ERROR
            continue
        from inference.asking.session import Session, answer
        from kaggle_rag.rankers.resources import Resources

        if arguments.prompt is not None:
            found = answer(Resources.open(solution), question)
        else:
            session = session or Session(Resources.open(solution))
            found = session.answer(question)
        as_json = json.dumps(found.as_json(), indent=2, ensure_ascii=False) if arguments.json else ""
        print(as_json or found.text(), flush=True)
    return code
