"""python -m inference  contexts · submit · score · ask · demo"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from kaggle_rag.runtime.errors import EXIT_USER_ERROR, ConfigError, InputError, run_program
from kaggle_rag.runtime.flags import ENCODER_HELP, OldName, commands_listed, encoders_of

_SUBMIT = """\
examples:
  python -m inference submit --questions test.csv --index index/ --out submission.csv
  python -m inference submit --config solution.yaml --set contexts.per=option
  python -m inference submit --questions test.csv --contexts-file contexts.parquet --out submission.csv

QUESTIONS is a .csv, .parquet or .jsonl file with id, prompt, A, B, ... and, where it has them,
context and is_question. Rows that bring a context are answered from it, the others from the index."""

_OVERVIEW = """\
examples:
  python -m inference submit --check --config solution.yaml
  python -m inference contexts --questions test.csv --index index/ --out contexts.parquet
  python -m inference submit --questions test.csv --contexts-file contexts.parquet --out submission.csv
  python -m inference score submission.csv train.csv

COMMAND --help lists its flags; docs/settings.md, what a solution.yaml may hold."""

_FLAGS = ("questions", "index", "contexts_file", "out", "encoder", "encoders", "device", "top", "limit")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inference", description="Answer multiple-choice questions from an index.",
        epilog=_OVERVIEW, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    raw = argparse.RawDescriptionHelpFormatter
    contexts = commands.add_parser("contexts", help="find and write the context of each question")
    _solution_flags(contexts)
    submit = commands.add_parser(
        "submit", help="questions to submission.csv", epilog=_SUBMIT, formatter_class=raw
    )
    _solution_flags(submit)
    submit.add_argument("--contexts-file", help="a contexts.parquet, instead of searching --index")
    submit.add_argument("--contexts", dest="contexts_file", action=OldName, help=argparse.SUPPRESS)
    submit.add_argument(
        "--top", metavar="N|all", help="letters of each prediction (default: 3, what the competition wants)"
    )
    submit.add_argument("--check", action="store_true", help="say all that is wrong, and answer nothing")
    submit.add_argument("--without-contexts", action="store_true", help="answer from the words alone")
    submit.add_argument("--sample", type=Path, help="sample_submission.csv: its ids must be these")
    score = commands.add_parser("score", help="MAP@k and precision@k of a submission")
    score.add_argument("submission", type=Path, metavar="SUBMISSION")
    score.add_argument("solution", type=Path, metavar="QUESTIONS", help="with answers, or id,answer")
    score.add_argument("--limit", type=_count, metavar="N", help="score the first N questions only")
    score.add_argument("--json", action="store_true", help="print JSON")
    ask = commands.add_parser("ask", help="ask questions, see what decided")
    _solution_flags(ask, files=False)
    ask.add_argument("--prompt", help="the question (default: typed, one after the other)")
    ask.add_argument("--option", action="append", default=[], help="an option; repeat it")
    ask.add_argument("--json", action="store_true", help="print JSON")
    demo = commands.add_parser("demo", help="the whole way on the embedded sample competition")
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="default: runs/demo")
    return parser


def _solution_flags(parser: argparse.ArgumentParser, *, files: bool = True) -> None:
    parser.add_argument("--config", metavar="YAML", help="solution.yaml; flags override it")
    parser.add_argument("--index", help="folder written by python -m wiki_index build")
    parser.add_argument("--encoder", action="append", metavar="FOLDER", help=ENCODER_HELP)
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--ram", metavar="SIZE", help="refuse a stage that would need more, e.g. 13GB")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, e.g. contexts.tokens=512"
    )
    if files:
        parser.add_argument("--questions", help="test.csv, .parquet or .jsonl")
        parser.add_argument("--out", help="the file to write")
        parser.add_argument("--limit", metavar="N", help="for trying things: the first N questions only")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of questions, 1 or more")
    return int(text)


def _solution(arguments: argparse.Namespace) -> tuple[Any, list[Any]]:
    """The settings that fit, and the faults of the others."""
    from kaggle_rag.config import load_partly

    flags: dict[str, Any] = {name: getattr(arguments, name, None) for name in _FLAGS}
    flags["encoder"], flags["encoders"] = encoders_of(arguments.encoder)
    # A flag is text; settings are numbers where they can be.
    for name in ("top", "limit"):
        if (text := str(flags[name])).isdecimal():
            flags[name] = int(text)
    changes = list(arguments.set) + ([f"limits.ram={arguments.ram}"] if arguments.ram else [])
    return load_partly(arguments.config, changes, flags)


def _tell_idle(solution: Any, arguments: argparse.Namespace) -> None:
    from inference.idle import idle

    typed = [change.partition("=")[0].strip() for change in arguments.set]
    for line in idle(solution, arguments.command, typed=typed):
        print("note: " + line, file=sys.stderr)


def _contexts(arguments: argparse.Namespace) -> int:
    from inference.checks import check_contexts

    solution, faults = _solution(arguments)
    inputs = check_contexts(solution, faults)
    _tell_idle(solution, arguments)
    from inference.contexts import contexts_to_file

    wrote = contexts_to_file(solution, inputs.questions)
    print(f"{solution.out}: " + ("ready" if wrote else "was there already for these inputs; nothing to do"))
    return 0


def _submit(arguments: argparse.Namespace) -> int:
    from inference.submit import check, submit

    solution, faults = _solution(arguments)
    if arguments.without_contexts and arguments.contexts_file:
        faults.append(
            ConfigError(
                "--contexts-file and --without-contexts contradict each other", cure="leave one of them out"
            )
        )
    how = {"without_contexts": arguments.without_contexts, "sample": arguments.sample}
    if arguments.check or faults:
        check(solution, **how, faults=faults)
        print("all is there: rankers, models, files and ids. Nothing was answered.")
        return 0
    count = submit(solution, **how)
    print(f"{solution.out}: {count:,} predictions")
    return 0


def _score(arguments: argparse.Namespace) -> int:
    from inference.score import score

    result = score(arguments.submission, arguments.solution, arguments.limit)
    print(json.dumps(result.as_json(), indent=2) if arguments.json else result.text())
    return 0


def _ask(arguments: argparse.Namespace) -> int:
    from inference.ask import Session, answer, asked, show
    from inference.checks import check_ask

    solution, faults = _solution(arguments)
    check_ask(solution, faults)
    _tell_idle(solution, arguments)
    session, wrong = None, 0
    for question in asked(arguments.prompt, arguments.option):
        if isinstance(question, InputError):
            print(f"error: {question}", file=sys.stderr)
            wrong = EXIT_USER_ERROR
            continue
        from kaggle_rag.rankers.resources import Resources

        if arguments.prompt is not None:
            result = answer(Resources.open(solution), question)
        else:
            session = session or Session(Resources.open(solution))
            result = session.answer(question)
        told = json.dumps(result, indent=2, ensure_ascii=False) if arguments.json else show(result)
        print(told, flush=True)
    return wrong


def _demo(arguments: argparse.Namespace) -> int:
    from inference.demo import demo

    return demo(arguments.out)


COMMANDS = {"contexts": _contexts, "submit": _submit, "score": _score, "ask": _ask, "demo": _demo}


def main() -> int:
    parser = _parser()
    if commands_listed(parser, sys.argv[1:]):
        return EXIT_USER_ERROR
    arguments = parser.parse_args()
    return COMMANDS[arguments.command](arguments)


if __name__ == "__main__":
    sys.exit(run_program(main))
