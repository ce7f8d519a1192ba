"""Fit the default score's weights, `kaggle_rag.rankers.weighed`, and print them beside the current ones.

They are fitted on the even rows of question sets, which no table of docs/results.md reports. Each set counts
the same, its short options and its long ones (8 words or more) separately, whatever its size.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.common import report
from benchmarks.open_book import flags, index_of, questions_of, retrieved
from kaggle_rag.data.questions import Questions
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.rankers.scores import words
from kaggle_rag.rankers.similarity import SimilarityRanker
from kaggle_rag.rankers.weighed import DEFAULT, Features, Group, features_of, fit, log_loss
from kaggle_rag.runtime.errors import run_program

SETS = ["sciq", "llmse_science", "openbookqa_train", "arc_easy_train", "arc_challenge_train"]
_LONG_WORDS = 8
_FEWEST = 20


def groups_of(
    name: str, questions: Questions, features: Sequence[Features | None]
) -> Iterator[tuple[str, Group]]:
    """Short and long options separately, without questions that lack evidence and groups of only a few."""
    mean = [np.mean([len(words(o)) for o in row if o is not None]) for row in questions.options]
    for kind, wanted in (("short", False), ("long", True)):
        rows = [r for r, each in enumerate(features) if each and (mean[r] >= _LONG_WORDS) == wanted]
        if len(rows) >= _FEWEST:
            # Features cover only the options that exist.
            places = [int(questions.present[r][: questions.answers[r]].sum()) for r in rows]
            yield f"{name}, {kind} options", Group.of([features[r] for r in rows], places)


def main() -> int:
    made = flags()
    made.description = __doc__
    made.set_defaults(sets=SETS, rows="even", most=1_200)
    arguments = made.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    groups: dict[str, Group] = {}
    for name in arguments.sets:
        index = Index(index_of(name, arguments.data, arguments.runs, arguments.index))
        encoder = Encoder.of_index(index.manifest.encoder)
        questions = questions_of(
            name, arguments.data, arguments.rows, 60 if arguments.quick else arguments.most
        )
        with SimilarityRanker(encoder, index) as ranker:
            views = ranker.views(questions, retrieved(questions, index, encoder))
            features = [features_of(each) if len(each.evidence) else None for each in views]
        groups |= groups_of(name, questions, features)
    fitted = fit(list(groups.values()))
    rows = [
        {"weights": name, **{key: f"{value:.3f}" for key, value in dataclasses.asdict(weights).items()}}
        | {"mean log loss": f"{np.mean([log_loss(weights, group) for group in groups.values()]):.4f}"}
        for name, weights in (("fitted now", fitted), ("of the default", DEFAULT))
    ]
    sizes = ", ".join(f"{name} {len(group.answers)}" for name, group in groups.items())
    report("Weights of the default score", rows, arguments.json, f"{arguments.rows} rows: {sizes}.")
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
