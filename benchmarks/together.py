"""Rankers that were trained on one file of questions, alone and blended, on the questions of another.

Each RANKER is a folder that `python -m training` wrote, with the same questions, and with the seed and
the share held out that are the defaults. How they are blended, with the training-free score among them,
is chosen by the questions that they held out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import kept_answers, parser, report
from benchmarks.mixtures import Mixture
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.evaluation.metrics import average_precisions, bootstrap, paired_bootstrap
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.rankers.similarity import SimilarityRanker
from kaggle_rag.runtime.errors import run_program
from training.rankers.dataset import RankerDataset
from training.rankers.settings import MultipleChoiceRun
from training.rankers.splits import split_questions

_FREE = "training-free"


def tables_of(dataset: RankerDataset, name: str, told: argparse.Namespace) -> dict[str, Probabilities]:
    """Probabilities ``(n, k)`` of the training-free score and of each ranker."""
    questions, contexts = dataset.questions, dataset.contexts
    with SimilarityRanker(Encoder(DEFAULT_ENCODER)) as ranker:
        tables = {_FREE: ranker.probabilities(questions, contexts)}
    for folder in told.rankers:
        tables[folder.name] = kept_answers(folder, questions, contexts, name, told.precision)
    return tables


def rows_of(
    judged: RankerDataset, tables: dict[str, Probabilities], held: RankerDataset,
    of_held: dict[str, Probabilities],
) -> list[dict[str, Any]]:  # fmt: skip
    """A row of each ranker alone, of each with the training-free score, and of all."""
    questions, names = judged.questions, [*tables]
    groups: list[Sequence[str]] = [[name] for name in names]
    groups += [[_FREE, name] for name in names[1:]]
    groups += [names[1:], names] if len(names) > 2 else []
    base, rows = None, []
    for group in groups:
        mixture = Mixture.fitted([of_held[name] for name in group], held.questions)
        table = mixture.of([tables[name] for name in group], questions.present)
        values = average_precisions(table, questions.answers, questions.present)
        base = values if base is None else base
        rows.append(
            {
                "ranker": " + ".join(group), "MAP@3": str(bootstrap(values)),
                "accuracy": f"{(values == 1).mean():.3f}",
                f"against {_FREE}": "" if values is base else str(paired_bootstrap(values, base)),
                "blended by": str(mixture) if len(group) > 1 else "",
            }
        )  # fmt: skip
    return rows


def main() -> int:
    flags = parser(str(__doc__))
    flags.formatter_class = argparse.RawDescriptionHelpFormatter
    flags.add_argument("rankers", type=Path, nargs="+", metavar="RANKER")
    for name, what in (("learnt", "learnt from"), ("judged", "judged by")):
        given = {"type": Path, "required": True, "metavar": "PATH"}
        flags.add_argument(f"--{name}", help=f"the questions {what}", **given)
        flags.add_argument(f"--{name}-contexts", help="their contexts", **given)
    flags.add_argument("--precision", choices=("fp32", "bf16"), help="of the answers (default: fp32)")
    told = flags.parse_args()
    run = MultipleChoiceRun(
        model="none", questions=told.learnt, contexts_file=told.learnt_contexts, out=Path("none")
    )
    _, held = split_questions(run)
    judged = RankerDataset.read(told.judged, told.judged_contexts, 24 if told.quick else None)
    tables = tables_of(judged, f"{told.judged.stem}-{len(judged)}", told)
    of_held = tables_of(held, f"{told.learnt.stem}-held", told)
    note = (
        f"{len(judged):,} questions judged; temperatures, weights and rules by the log loss of {len(held):,} "
        "held out. 95 % bootstrap intervals."
    )
    report(f"Together: {told.judged.stem}", rows_of(judged, tables, held, of_held), told.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
