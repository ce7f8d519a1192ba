"""A ranker trained on one question set and judged on another, beside the training-free one and the blend.

`openbookqa` learns from the train questions of OpenBookQA and answers dev; each option is read with the facts
of the open book that the retriever finds for it, never the gold one. `extra` learns from generated exam
questions (`extra_6k`, its near-duplicates of `extra_500` left out) and answers `extra_500`, with contexts
from the index of Wikipedia articles. The commands are those that a user types; the settings of the training
are in benchmarks/ranker_openbookqa.yaml and ranker_extra.yaml. The weights of the blend are fitted on the
questions held out of the training, not on those of the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import first_rows, index_of_facts, kit, parser, report
from kaggle_rag.config import read_settings
from kaggle_rag.ensemble import Probabilities, blend, fit_weights
from kaggle_rag.errors import run_program
from kaggle_rag.metrics import average_precisions, bootstrap, chance_map_at_k, paired_bootstrap
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.rankers.registry import make_ranker
from kaggle_rag.retrieval.encoder import Encoder
from training.ranker_config import MultipleChoiceRun
from training.ranker_data import Lessons
from training.run import RECORD
from training.splits import split_lessons

HERE = Path(__file__).parent
_QUICK_ROWS = 60


@dataclasses.dataclass(frozen=True)
class Task:
    """Files of the question sets, and how their contexts are made."""

    train: str
    judged: str
    contexts: tuple[str, ...]


TASKS = {
    "openbookqa": Task(
        "openbookqa_train", "openbookqa_dev",
        ("contexts.per=option", "contexts.tokens=64"),
    ),
    "extra": Task("extra_6k", "extra_500", ("contexts.tokens=64",)),
}  # fmt: skip


def train(settings: Mapping[str, Any]) -> Path:
    """The ranker's folder, trained unless it is there; killed, it goes on where it was."""
    names = {"contexts": "contexts_file"}
    flags = [
        word for key, value in settings.items()
        for word in ("--" + names.get(key, key).replace("_", "-"), value)
    ]  # fmt: skip
    kit("training", "multiple-choice", *flags)
    return Path(settings["out"])


def answers(lessons: Lessons, ranker: Path) -> dict[str, Probabilities]:
    """Probabilities of both rankers, ``(n, k)`` each."""
    encoder = Encoder(DEFAULT_ENCODER)
    tables = {}
    for name, kind, options in (
        ("similarity", "similarity", {}), ("trained", "trained", {"folder": str(ranker)})
    ):  # fmt: skip
        with make_ranker(kind, options, encoder=encoder, index=None) as made:
            tables[name] = made.probabilities(lessons.questions, lessons.contexts)
    return tables


def rows_of(judged: Lessons, tables: dict[str, Probabilities]) -> list[dict[str, Any]]:
    """One line a ranker: MAP@3, accuracy, and the difference to the first."""
    questions = judged.questions
    values = {
        name: average_precisions(table, questions.answers, questions.present)
        for name, table in tables.items()
    }
    base = values["similarity"]
    return [
        {
            "ranker": name,
            "MAP@3": str(bootstrap(each)),
            "accuracy": f"{(each == 1).mean():.3f}",
            "against similarity": "" if each is base else str(paired_bootstrap(each, base)),
        }
        for name, each in values.items()
    ]


def main() -> int:
    flags = parser(str(__doc__))
    flags.formatter_class = argparse.RawDescriptionHelpFormatter
    flags.add_argument("task", choices=TASKS)
    flags.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data", help="shared data")
    flags.add_argument("--index", type=Path, help="of Wikipedia articles, for the task extra")
    flags.add_argument("--runs", type=Path, default=Path("runs/rankers"), help="where everything goes")
    arguments = flags.parse_args()
    task, data = TASKS[arguments.task], arguments.data
    folder = arguments.runs / (arguments.task + ("-quick" if arguments.quick else ""))
    folder.mkdir(parents=True, exist_ok=True)
    learnt, judged = (data / "mcq" / f"{name}.csv" for name in (task.train, task.judged))
    if arguments.quick:
        learnt, judged = (first_rows(path, folder, _QUICK_ROWS) for path in (learnt, judged))
    index = arguments.index or index_of_facts(data / "openbook_facts.txt", folder)
    contexts = {path: folder / f"{path.stem}.parquet" for path in (learnt, judged)}
    changes = [word for change in task.contexts for word in ("--set", change)]
    for path, out in contexts.items():
        kit("inference", "contexts", "--questions", path, "--index", index, "--out", out, *changes)
    settings = {
        "questions": learnt, "contexts": contexts[learnt], "exclude": judged, "out": folder / "ranker",
        **({"epochs": 0.2} if arguments.quick else {}),
    }  # fmt: skip
    config = HERE / f"ranker_{arguments.task}.yaml"
    train({"config": config, **settings})
    told = read_settings(MultipleChoiceRun, config, (), {**settings, "exclude": (judged,)})
    rows, note = judge(told, Lessons.read(judged, contexts[judged]))
    report(f"A trained ranker: {task.train} to {task.judged}", rows, arguments.json, note)
    return 0


def judge(settings: MultipleChoiceRun, judged: Lessons) -> tuple[list[dict[str, Any]], str]:
    """The table of the trained ranker, the training-free one and their blend, and what it was made of."""
    learnt, held = split_lessons(settings)
    known = list(answers(held, settings.out).values())
    fitted = fit_weights(known, held.questions.answers, held.questions.present)
    tables = answers(judged, settings.out)
    tables["blend"] = blend(list(tables.values()), fitted.weights, judged.questions.present)
    result = json.loads((settings.out / RECORD).read_text(encoding="utf-8"))["result"]
    chance = chance_map_at_k(judged.questions.present.sum(axis=1))
    weights = ", ".join(f"{weight:.2f}" for weight in fitted.weights)
    note = (
        f"{len(learnt):,} questions learnt from, {len(held):,} held out to choose the checkpoint; "
        f"{result['steps']:,} steps in {result['seconds'] / 60:.0f} minutes. {len(judged):,} questions "
        f"judged, chance {chance:.3f}. Weights of the blend {weights}"
        + (f" ({fitted.refused})" if fitted.refused else ", fitted on the held out")
        + ". 95 % bootstrap intervals."
    )
    return rows_of(judged, tables), note


if __name__ == "__main__":
    sys.exit(run_program(main))
