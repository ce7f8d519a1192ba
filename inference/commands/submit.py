"""``python -m inference submit``: its flags, and from them a submission, a check, or a plan of one."""

from __future__ import annotations

import argparse
from pathlib import Path

from inference.arguments import solution_flags, solution_of
from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.flags import OldName, count_of, note_idle
from kaggle_rag.runtime.report import show
from kaggle_rag.runtime.words import counted

EXAMPLES = """\
examples:
  python -m inference submit --questions test.csv --index index/ --out submission.csv
  python -m inference submit --config solution.yaml --set contexts.per=option
  python -m inference submit --questions test.csv --contexts-file contexts.parquet --out submission.csv

QUESTIONS is a .csv, .parquet or .jsonl file with id, prompt, A, B, ... and optionally
context and is_question. Rows with a context are answered from it, the others from the index."""


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    solution_flags(parser)
    parser.add_argument("--contexts-file", help="contexts.parquet to use instead of searching --index")
    parser.add_argument("--contexts", dest="contexts_file", action=OldName, help=argparse.SUPPRESS)
    parser.add_argument(
        "--top", metavar="N|all", help="letters per prediction (default: 3, as the competition requires)"
    )
    parser.add_argument("--check", action="store_true", help="report every fault; answer nothing")
    parser.add_argument("--dry-run", action="store_true", help="measure what it will take; write nothing")
    parser.add_argument(
        "--questions-expected", type=count_of("questions"), metavar="N",
        help="with --dry-run: questions of the hidden test set (default: those of QUESTIONS)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="with --dry-run: print JSON")
    parser.add_argument("--strict", action="store_true", help="stop at the first stage that fails")
    parser.add_argument("--time", metavar="TIME", help="end in this time, e.g. 8.5h or 40m")
    parser.add_argument("--without-contexts", action="store_true", help="answer from the question text alone")
    parser.add_argument("--sample", type=Path, help="sample_submission.csv; its ids must match the questions")


def run(arguments: argparse.Namespace) -> int:
    from inference.submit import check, submit

    solution, faults = solution_of(arguments)
    if arguments.without_contexts and arguments.contexts_file:
        faults.append(
            ConfigError(
                "--contexts-file and --without-contexts contradict each other", cure="remove one of them"
            )
        )
    if not arguments.dry_run:
        note_idle(arguments, ("questions_expected", "json"), "without --dry-run")
    options = {"without_contexts": arguments.without_contexts, "sample": arguments.sample}
    if arguments.check or faults:
        check(solution, **options, faults=faults)
        print("all checks passed: rankers, models, files and ids. Nothing was answered.")
        return 0
    if arguments.dry_run:
        inputs = check(solution, **options)
        from inference.planner import plan

        show(
            plan(solution, inputs, without_contexts=arguments.without_contexts,
                 expected=arguments.questions_expected),
            as_json=arguments.json,
        )  # fmt: skip
        return 0
    count = submit(solution, **options, strict=arguments.strict)
    print(f"{solution.out}: {counted(count, 'prediction')}")
    return 0
