"""``python -m inference predict``: its flags, and help that teaches."""

from __future__ import annotations

import argparse

from inference.arguments import note_unused, solution_flags, solution_of
from kaggle_rag.runtime.cluster import cluster_flags, cluster_of
from kaggle_rag.runtime.words import counted

EXAMPLES = """\
examples:
  python -m inference predict --config solution.yaml --questions generated.jsonl \\
      --contexts-file contexts.parquet --out teacher.predictions/
  python -m inference predict --config solution.yaml --questions generated.jsonl \\
      --contexts-file /nfs/contexts.parquet --out /nfs/teacher.predictions/ --workers ray --ray-address auto
  python -m inference blend teacher.predictions/ --out submission.csv

OUT is a folder, into which each ranker writes one file of probabilities: a training takes one of these files
as its teacher, and submit takes the folder up if it is that beside its submission. With --workers ray,
batches are answered wherever a cluster has room; OUT, the models and the kit must be at the same path on
every node. A killed run resumes, with Ray or without."""


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``predict``."""
    solution_flags(parser, index=False, out="the folder to write, such as teacher.predictions")
    parser.add_argument("--contexts-file", help="the contexts.parquet of these questions")
    parser.add_argument("--without-contexts", action="store_true", help="answer from the question text alone")
    cluster_flags(parser, "answer")


def run(arguments: argparse.Namespace) -> int:
    """Check what can be checked, then ask the rankers."""
    from inference.checks import check_predict

    solution, faults = solution_of(arguments)
    cluster, blind = cluster_of(arguments, solution.device), arguments.without_contexts
    inputs = check_predict(solution, without_contexts=blind, faults=faults)
    note_unused(solution, arguments)
    from inference.answering import predictions_to_folder

    predictions_to_folder(solution, inputs, without_contexts=blind, cluster=cluster)
    print(f"{solution.out}: {counted(len(inputs.questions), 'question')} answered")
    return 0
