"""How often trainings that differ by their seed alone are called different: five in a hundred at most.

The ranker of benchmarks/ranker_TASK.yaml is trained with so many seeds. Every two of them are compared as
`training compare` compares two runs, and groups of three with other groups of three as over seeds. The pairs
share trainings, so they are no independent draws. A killed run resumes.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import parser, report
from benchmarks.ranker_training import TASKS
from benchmarks.what_helps import PLAIN, Values, bench_of, in_words, run_flags, trained
from kaggle_rag.evaluation.metrics import Comparison, paired_bootstrap, paired_over_seeds
from kaggle_rag.runtime.errors import run_program

_GROUP = 3


def groups(seeds: int, pairs: int) -> list[tuple[list[int], list[int]]]:
    """Draws of two groups of seeds that have none in common."""
    rng = np.random.default_rng(0)
    drawn = (rng.permutation(seeds).tolist() for _ in range(pairs))
    return [(order[:_GROUP], order[_GROUP : 2 * _GROUP]) for order in drawn]


def row_of(compared: str, found: Iterable[Comparison]) -> dict[str, Any]:
    each = list(found)
    detectable = [one.smallest for one in each if one.smallest is not None]
    return {
        "compared": compared, "pairs": len(each),
        "called different": f"{np.mean([one.distinguishable for one in each]):.3f}",
        "largest difference": f"±{max(abs(one.difference.mean) for one in each):.4f}",
        "detectable, median": f"±{np.median(detectable):.4f}" if detectable else "",
    }  # fmt: skip


def rows_of(values: Values, pairs: int) -> list[dict[str, Any]]:
    """``values`` ``(seeds, n)``, of each question."""
    twos = itertools.combinations(values, 2)
    return [
        row_of("seed against seed, by questions", (paired_bootstrap(*two) for two in twos)),
        row_of(
            f"{_GROUP} seeds against {_GROUP}, over seeds",
            (paired_over_seeds(values[one], values[other]) for one, other in groups(len(values), pairs)),
        ),
    ]


def main() -> int:
    flags = parser(str(__doc__))
    flags.formatter_class = argparse.RawDescriptionHelpFormatter
    flags.add_argument("task", choices=TASKS)
    flags.add_argument("--pairs", type=int, default=40, metavar="N", help="of groups (default: 40)")
    run_flags(flags)
    flags.set_defaults(seeds=10, runs=Path("runs/same_runs"))
    arguments = flags.parse_args()
    bench = bench_of(arguments)
    if arguments.quick:
        bench = dataclasses.replace(bench, seeds=2 * _GROUP)
    if bench.seeds < 2 * _GROUP:
        flags.error(f"two groups of {_GROUP} need --seeds {2 * _GROUP} at least")
    values = np.stack([bench.values(bench.answers(each)) for each in trained(bench, PLAIN)])
    means = values.mean(axis=1)
    note = (
        f"{arguments.learnt or 'All'} questions of {bench.learnt.stem}, {values.shape[1]:,} judged; "
        f"{bench.seeds} seeds with MAP@3 from {means.min():.3f} to {means.max():.3f}"
        f"{in_words(bench.settings)}."
    )
    report(f"Trained alike: {bench.learnt.stem}", rows_of(values, arguments.pairs), arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
