"""python -m inference  contexts · submit · score · ask · demo"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from kaggle_rag.errors import run_program

_SUBMIT = """\
examples:
  python -m inference submit --questions test.csv --index index/ --out submission.csv
  python -m inference submit --config solution.yaml --set contexts.per=option
  python -m inference submit --questions test.csv --contexts-file contexts.parquet --out submission.csv

QUESTIONS is a .csv, .parquet or .jsonl file with id, prompt, A, B, ... and, where it has them,
context and is_question. Rows that bring a context are answered from it, the others from the index."""

_FLAGS = ("questions", "index", "contexts_file", "out", "encoder", "device")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inference", description="Answer multiple-choice questions from an index."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    raw = argparse.RawDescriptionHelpFormatter
    contexts = commands.add_parser("contexts", help="find and write the context of each question")
    _solution_flags(contexts)
    submit = commands.add_parser(
        "submit", help="questions to submission.csv", epilog=_SUBMIT, formatter_class=raw
    )
    _solution_flags(submit)
    submit.add_argument("--contexts-file", help="a contexts.parquet, instead of searching --index")
    submit.add_argument("--without-contexts", action="store_true", help="answer from the words alone")
    submit.add_argument("--sample", type=Path, help="sample_submission.csv: its ids must be these")
    score = commands.add_parser("score", help="MAP@3 of a submission")
    score.add_argument("submission", type=Path, metavar="SUBMISSION")
    score.add_argument("solution", type=Path, metavar="QUESTIONS", help="with answers, or id,answer")
    score.add_argument("--json", action="store_true", help="print JSON")
    ask = commands.add_parser("ask", help="ask one question, see what decided")
    _solution_flags(ask, files=False)
    ask.add_argument("--prompt", help="the question (default: typed)")
    ask.add_argument("--option", action="append", default=[], help="an option; repeat it")
    ask.add_argument("--json", action="store_true", help="print JSON")
    demo = commands.add_parser("demo", help="the whole way on the embedded sample competition")
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="default: runs/demo")
    return parser


def _solution_flags(parser: argparse.ArgumentParser, *, files: bool = True) -> None:
    parser.add_argument("--config", metavar="YAML", help="solution.yaml; flags override it")
    parser.add_argument("--index", help="folder written by python -m wiki_index build")
    parser.add_argument("--encoder", help="where the index's encoder lies now (same weights)")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--ram", metavar="SIZE", help="refuse a stage that would need more, e.g. 13GB")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, e.g. contexts.tokens=512"
    )
    if files:
        parser.add_argument("--questions", help="test.csv, .parquet or .jsonl")
        parser.add_argument("--out", help="the file to write")


def _solution(arguments: argparse.Namespace) -> Any:
    from kaggle_rag.config import load

    flags = {name: getattr(arguments, name, None) for name in _FLAGS}
    changes = list(arguments.set) + ([f"limits.ram={arguments.ram}"] if arguments.ram else [])
    return load(arguments.config, changes, flags)


def _contexts(arguments: argparse.Namespace) -> int:
    from inference.pipeline import contexts_to_file

    solution = _solution(arguments)
    wrote = contexts_to_file(solution)
    print(f"{solution.out}: " + ("ready" if wrote else "was there already for these inputs; nothing to do"))
    return 0


def _submit(arguments: argparse.Namespace) -> int:
    from inference.submit import submit

    solution = _solution(arguments)
    count = submit(solution, without_contexts=arguments.without_contexts, sample=arguments.sample)
    print(f"{solution.out}: {count:,} predictions")
    return 0


def _score(arguments: argparse.Namespace) -> int:
    from inference.scoring import score

    result = score(arguments.submission, arguments.solution)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        print(
            f"MAP@3 {result['map@3']:.4f} [{result['low']:.4f}, {result['high']:.4f}] (95 %), "
            f"accuracy {result['accuracy']:.4f}, {result['questions']:,} questions"
        )
    return 0


def _ask(arguments: argparse.Namespace) -> int:
    from inference.ask import answer, from_words, show
    from inference.pipeline import Bench, given

    solution = _solution(arguments)
    given(solution, "index")
    asked = from_words(arguments.prompt, arguments.option)
    result = answer(Bench.open(solution), asked)
    print(json.dumps(result, indent=2, ensure_ascii=False) if arguments.json else show(result))
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from inference.demo import demo

    return demo(arguments.out)


COMMANDS = {"contexts": _contexts, "submit": _submit, "score": _score, "ask": _ask, "demo": _demo}


def main() -> int:
    arguments = _parser().parse_args()
    return COMMANDS[arguments.command](arguments)


if __name__ == "__main__":
    sys.exit(run_program(main))
