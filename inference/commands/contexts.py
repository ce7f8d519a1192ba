"""``python -m inference contexts``: its flags, and from them a contexts file."""

from __future__ import annotations

import argparse

from inference.arguments import note_unused, solution_flags, solution_of
from kaggle_rag.runtime.cluster import cluster_flags, cluster_of

EXAMPLES = """\
examples:
  python -m inference contexts --questions test.csv --index index/ --out contexts.parquet
  python -m inference contexts --questions generated.jsonl --index /nfs/index --out /nfs/contexts.parquet \\
      --workers ray --ray-address auto

With --workers ray, batches of questions are searched wherever a cluster has room, on its GPUs if it has
any, and a lost node's batches are searched again elsewhere. The folder of OUT, the index and the kit must
be at the same path on every node. A killed run resumes, with Ray or without."""


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    solution_flags(parser)
    parser.add_argument("--open", action="store_true", help="QUESTIONS have no options: for generate")
    cluster_flags(parser, "search")


def run(arguments: argparse.Namespace) -> int:
    from inference.checks import check_contexts

    solution, faults = solution_of(arguments)
    cluster = cluster_of(arguments, solution.device)
    inputs = check_contexts(solution, faults, is_open=arguments.open)
    note_unused(solution, arguments)
    from inference.contexts import contexts_to_file

    wrote = contexts_to_file(solution, inputs.questions, cluster)
    print(f"{solution.out}: " + ("ready" if wrote else "already complete for these inputs; nothing to do"))
    return 0
