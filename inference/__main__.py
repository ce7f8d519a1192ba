"""python -m inference  contexts · submit · predict · generate · score · blend · report · ask · bundle · …"""

from __future__ import annotations

import sys

from inference import (
    blend_command,
    contexts_command,
    demo_command,
    open_answers,
    predict_command,
    score_command,
    submit_command,
)
from inference.asking import command as asking
from inference.notebook import command as bundle_command
from inference.notebook.rehearsal import command as rehearsal
from inference.report import command as report_command
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.runtime.program import Command, Program

_OVERVIEW = """\
examples:
  python -m inference submit --check --config solution.yaml
  python -m inference contexts --questions test.csv --index index/ --out contexts.parquet
  python -m inference submit --questions test.csv --contexts-file contexts.parquet --out submission.csv
  python -m inference score submission.csv train.csv

COMMAND --help lists its flags; docs/settings.md documents solution.yaml."""

PROGRAM = Program(
    "inference", "Answer questions from an index.", _OVERVIEW,
    {
        "contexts": Command(
            "find and write the context of each question",
            contexts_command.run, contexts_command.flags, contexts_command.EXAMPLES,
        ),
        "submit": Command(
            "answer questions and write submission.csv",
            submit_command.run, submit_command.flags, submit_command.EXAMPLES,
        ),
        "predict": Command(
            "answer any number of questions and keep the probabilities",
            predict_command.run, predict_command.flags, predict_command.EXAMPLES,
        ),
        "generate": Command(
            "answer questions in words", open_answers.generate, open_answers.generate_flags,
            open_answers.GENERATE,
        ),
        "score": Command(
            "compute MAP@k and precision@k of a submission", score_command.run, score_command.flags
        ),
        "score-answers": Command(
            "compute exact match, F1, accuracy and BERTScore of answers in words", open_answers.score,
            open_answers.score_flags, open_answers.SCORE,
        ),
        "report": Command(
            "show why a run answered as it did, as one HTML page",
            report_command.run, report_command.flags, report_command.EXAMPLES,
        ),
        "ask": Command("ask questions and see the evidence", asking.run, asking.flags, asking.EXAMPLES),
        "blend": Command(
            "mix the predictions of several runs into one submission",
            blend_command.run, blend_command.flags, blend_command.EXAMPLES,
        ),
        "bundle": Command(
            "package a solution for Kaggle",
            bundle_command.run, bundle_command.flags, bundle_command.EXAMPLES,
        ),
        "rehearse": Command(
            "run a bundle's notebook as the judge will, and harder",
            rehearsal.run, rehearsal.flags, rehearsal.EXAMPLES,
        ),
        "demo": Command(
            "run every stage on the embedded sample competition", demo_command.run, demo_command.flags
        ),
    },
)  # fmt: skip
main = PROGRAM.main

if __name__ == "__main__":
    sys.exit(run_program(main))
