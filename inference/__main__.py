"""python -m inference  contexts · submit · predict · generate · score · blend · report · ask · bundle · …"""

from __future__ import annotations

import sys

from inference.commands import (
    ask,
    blend,
    bundle,
    contexts,
    demo,
    generate,
    predict,
    rehearse,
    report,
    score,
    score_answers,
    submit,
)
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
            "find and write the context of each question", contexts.run, contexts.flags, contexts.EXAMPLES
        ),
        "submit": Command(
            "answer questions and write submission.csv", submit.run, submit.flags, submit.EXAMPLES
        ),
        "predict": Command(
            "answer any number of questions and keep the probabilities",
            predict.run, predict.flags, predict.EXAMPLES,
        ),
        "generate": Command("answer questions in words", generate.run, generate.flags, generate.EXAMPLES),
        "score": Command("compute MAP@k and precision@k of a submission", score.run, score.flags),
        "score-answers": Command(
            "compute exact match, F1, accuracy and BERTScore of answers in words",
            score_answers.run, score_answers.flags, score_answers.EXAMPLES,
        ),
        "report": Command(
            "show why a run answered as it did, as one HTML page", report.run, report.flags, report.EXAMPLES
        ),
        "ask": Command("ask questions and see the evidence", ask.run, ask.flags, ask.EXAMPLES),
        "blend": Command(
            "mix the predictions of several runs into one submission", blend.run, blend.flags, blend.EXAMPLES
        ),
        "bundle": Command("package a solution for Kaggle", bundle.run, bundle.flags, bundle.EXAMPLES),
        "rehearse": Command(
            "run a bundle's notebook as the judge will, and harder",
            rehearse.run, rehearse.flags, rehearse.EXAMPLES,
        ),
        "demo": Command("run every stage on the embedded sample competition", demo.run, demo.flags),
    },
)  # fmt: skip
main = PROGRAM.main

if __name__ == "__main__":
    sys.exit(run_program(main))
