"""python -m inference  contexts · submit · predict · generate · score · blend · report · ask · bundle · …"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from inference import open_answers, predict_command
from inference.arguments import note_unused, solution_flags, solution_of
from inference.asking import command as asking
from inference.notebook.rehearsal import command as rehearsal
from kaggle_rag.runtime.cluster import cluster_flags, cluster_of
from kaggle_rag.runtime.errors import ConfigError, run_program
from kaggle_rag.runtime.flags import OldName, count_of, note_idle
from kaggle_rag.runtime.program import Command, Program
from kaggle_rag.runtime.report import show as show_report
from kaggle_rag.runtime.words import counted

_SUBMIT = """\
examples:
  python -m inference submit --questions test.csv --index index/ --out submission.csv
  python -m inference submit --config solution.yaml --set contexts.per=option
  python -m inference submit --questions test.csv --contexts-file contexts.parquet --out submission.csv

QUESTIONS is a .csv, .parquet or .jsonl file with id, prompt, A, B, ... and optionally
context and is_question. Rows with a context are answered from it, the others from the index."""

_CONTEXTS = """\
examples:
  python -m inference contexts --questions test.csv --index index/ --out contexts.parquet
  python -m inference contexts --questions generated.jsonl --index /nfs/index --out /nfs/contexts.parquet \\
      --workers ray --ray-address auto

With --workers ray, batches of questions are searched wherever a cluster has room, on its GPUs if it has
any, and a lost node's batches are searched again elsewhere. The folder of OUT, the index and the kit must
be at the same path on every node. A killed run resumes, with Ray or without."""

_BLEND = """\
examples:
  python -m inference blend mine.predictions/ theirs.predictions/ --out submission.csv
  python -m inference blend a.predictions/ b.predictions/ --weights 2 1 --rule ranks --out submission.csv

RUN is the folder that submit writes beside its submission. A question that a run did not get to is decided by
the others."""

_BUNDLE = """\
examples:
  python -m inference bundle --config solution.yaml --image freeze.txt --owner me --slug science-exam \\
      --competition kaggle-llm-science-exam --out bundle/
  python -m inference bundle --config solution.yaml --image freeze.txt --owner me --slug science-exam \\
      --out bundle/ --dry-run

FREEZE is what `pip freeze` prints in a notebook of the image. docs/notebook.md tells what a bundle holds."""

_REPORT = """\
examples:
  python -m inference report submission.predictions --questions train.csv --out report.html
  python -m inference report runs/solution --questions train.csv --contexts-file contexts.parquet
  python -m inference report new.predictions --questions train.csv --compare old.predictions

The page needs no network, and sends nothing anywhere."""

_OVERVIEW = """\
examples:
  python -m inference submit --check --config solution.yaml
  python -m inference contexts --questions test.csv --index index/ --out contexts.parquet
  python -m inference submit --questions test.csv --contexts-file contexts.parquet --out submission.csv
  python -m inference score submission.csv train.csv

COMMAND --help lists its flags; docs/settings.md documents solution.yaml."""


def _submit_flags(parser: argparse.ArgumentParser) -> None:
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


def _contexts_flags(parser: argparse.ArgumentParser) -> None:
    solution_flags(parser)
    parser.add_argument("--open", action="store_true", help="QUESTIONS have no options: for generate")
    cluster_flags(parser, "search")


def _score_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("submission", type=Path, metavar="SUBMISSION")
    parser.add_argument(
        "solution", type=Path, metavar="QUESTIONS", help="questions with answers, or a table of id and answer"
    )
    parser.add_argument("--limit", type=count_of("questions"), metavar="N", help="score only the first N")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _report_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="NAME.predictions beside a submission, or a cross-validation"
    )
    parser.add_argument("--questions", type=Path, required=True, help="its questions (with answers: scores)")
    parser.add_argument("--contexts-file", type=Path, help="the contexts.parquet that it was given")
    parser.add_argument(
        "--compare", type=Path, metavar="OTHER", help="another run of the same questions, shown beside it"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("report.html"), help="the page to write (default: report.html)"
    )
    parser.add_argument("--limit", type=count_of("questions"), metavar="N", help="show only the first N")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _blend_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="NAME.predictions of submit")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="the submission to write")
    parser.add_argument("--weights", type=float, nargs="+", metavar="X", help="one per run (default: equal)")
    rules = ("probabilities", "ranks", "logits")
    parser.add_argument("--rule", choices=rules, default="probabilities", help="what is averaged")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _bundle_flags(parser: argparse.ArgumentParser) -> None:
    solution_flags(parser, files=False)
    parser.add_argument("--image", type=Path, metavar="FREEZE", help="pip freeze of the notebook's image")
    parser.add_argument("--python", metavar="X.Y", help="Python of the image, if the freeze does not tell")
    parser.add_argument("--owner", required=True, help="your name in Kaggle's addresses")
    parser.add_argument("--slug", required=True, help="name of the dataset in its address, e.g. science-exam")
    parser.add_argument("--title", default="", help="title of the dataset (default: the slug in words)")
    parser.add_argument("--competition", default="", metavar="SLUG", help="its name in addresses")
    # As a setting, out is a submission.
    parser.add_argument(
        "--out", dest="bundle", type=Path, required=True, metavar="FOLDER", help="the folder to write"
    )
    parser.add_argument(
        "--wheels", choices=("download", "none"), default="download",
        help="download what the image lacks, or bundle no wheels",
    )  # fmt: skip
    parser.add_argument(
        "--dataset-size", metavar="SIZE", default="200GB",
        help="what one dataset may weigh; the rest goes into further ones (default: 200GB, Kaggle's limit)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="list what it would hold; write nothing")
    parser.add_argument("--push", action="store_true", help="upload it with Kaggle's client")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _demo_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="default: runs/demo")


def _contexts(arguments: argparse.Namespace) -> int:
    from inference.checks import check_contexts

    solution, faults = solution_of(arguments)
    cluster = cluster_of(arguments, solution.device)
    inputs = check_contexts(solution, faults, is_open=arguments.open)
    note_unused(solution, arguments)
    from inference.contexts import contexts_to_file

    wrote = contexts_to_file(solution, inputs.questions, cluster)
    print(f"{solution.out}: " + ("ready" if wrote else "already complete for these inputs; nothing to do"))
    return 0


def _submit(arguments: argparse.Namespace) -> int:
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

        show_report(
            plan(solution, inputs, without_contexts=arguments.without_contexts,
                 expected=arguments.questions_expected),
            as_json=arguments.json,
        )  # fmt: skip
        return 0
    count = submit(solution, **options, strict=arguments.strict)
    print(f"{solution.out}: {counted(count, 'prediction')}")
    return 0


def _score(arguments: argparse.Namespace) -> int:
    from inference.score import score

    report = score(arguments.submission, arguments.solution, arguments.limit)
    show_report(report, as_json=arguments.json)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from inference.report.build import report

    found = report(
        arguments.run, arguments.questions, arguments.contexts_file, arguments.out, arguments.limit,
        arguments.compare,
    )  # fmt: skip
    show_report(found, as_json=arguments.json)
    print(f"{arguments.out}: open it in a browser", file=sys.stderr)
    return 0


def _blend(arguments: argparse.Namespace) -> int:
    from inference.blend import blend_runs

    report = blend_runs(arguments.runs, arguments.out, arguments.weights, arguments.rule)
    show_report(report, as_json=arguments.json)
    return 0


def _bundle(arguments: argparse.Namespace) -> int:
    from inference.notebook.bundle import Wanted, bundle
    from inference.notebook.metadata import Names

    solution, faults = solution_of(arguments)
    names = Names(arguments.owner, arguments.slug, arguments.title, arguments.competition)
    wanted = Wanted(
        names, arguments.bundle, arguments.image, arguments.python, wheels=arguments.wheels == "download",
        dry_run=arguments.dry_run, push=arguments.push, dataset=_dataset(arguments.dataset_size),
    )  # fmt: skip
    show_report(bundle(solution, wanted, faults), as_json=arguments.json)
    return 0


def _dataset(text: str) -> int:
    from kaggle_rag.runtime.limits import parse_size

    size = parse_size(text, "--dataset-size")
    if not size:
        raise ConfigError("nothing fits into it", where="--dataset-size", expected="a size such as 200GB")
    return size


def _demo(arguments: argparse.Namespace) -> int:
    from inference.demo import demo

    return demo(arguments.out)


PROGRAM = Program(
    "inference", "Answer questions from an index.", _OVERVIEW,
    {
        "contexts": Command(
            "find and write the context of each question", _contexts, _contexts_flags, _CONTEXTS
        ),
        "submit": Command("answer questions and write submission.csv", _submit, _submit_flags, _SUBMIT),
        "predict": Command(
            "answer any number of questions and keep the probabilities",
            predict_command.run, predict_command.flags, predict_command.EXAMPLES,
        ),
        "generate": Command(
            "answer questions in words", open_answers.generate, open_answers.generate_flags,
            open_answers.GENERATE,
        ),
        "score": Command("compute MAP@k and precision@k of a submission", _score, _score_flags),
        "score-answers": Command(
            "compute exact match, F1, accuracy and BERTScore of answers in words", open_answers.score,
            open_answers.score_flags, open_answers.SCORE,
        ),
        "report": Command(
            "show why a run answered as it did, as one HTML page", _report, _report_flags, _REPORT
        ),
        "ask": Command("ask questions and see the evidence", asking.run, asking.flags, asking.EXAMPLES),
        "blend": Command(
            "mix the predictions of several runs into one submission", _blend, _blend_flags, _BLEND
        ),
        "bundle": Command("package a solution for Kaggle", _bundle, _bundle_flags, _BUNDLE),
        "rehearse": Command(
            "run a bundle's notebook as the judge will, and harder",
            rehearsal.run, rehearsal.flags, rehearsal.EXAMPLES,
        ),
        "demo": Command("run every stage on the embedded sample competition", _demo, _demo_flags),
    },
)  # fmt: skip
main = PROGRAM.main

if __name__ == "__main__":
    sys.exit(run_program(main))
