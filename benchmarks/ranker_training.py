"""A ranker trained on one question set and evaluated on another, next to a training-free one and the blend.

`openbookqa` trains on the train questions of OpenBookQA and answers dev; each option is read with the facts
of the open book that the retriever finds for it, never the gold one. `sciq` does the same from the train
questions to the held-out split, and `llmse` from the even science rows to the odd ones, each among all texts
of its file. `extra` trains on generated exam questions (`extra_6k`, without its near-duplicates of
`extra_500`) and answers `extra_500`, with contexts from the index of Wikipedia articles. The commands are
those that a user types; the training settings are in benchmarks/ranker_*.yaml. The weights of the blend are
fitted on the questions held out of training, not on those of the table.

``--encoder`` is what `python -m training retriever` made of the same questions to learn from: it finds the
contexts, and the ranker starts from its weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import kit, parser, report, written_rows
from benchmarks.open_book import index_of, rows_of
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.ensembling.blending import blend, fit_weights
from kaggle_rag.evaluation.metrics import average_precisions, bootstrap, chance_map_at_k, paired_bootstrap
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.rankers.registry import make_ranker
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.runtime.settings import read_settings
from training.loop.run_folder import RECORD
from training.rankers.dataset import RankerDataset
from training.rankers.settings import MultipleChoiceRun
from training.rankers.splits import split_questions

HERE = Path(__file__).parent
_QUICK_ROWS = 60
_TELLING = {"context", "support", "fact", "useful"}


@dataclasses.dataclass(frozen=True)
class Part:
    """The first ``most`` of the chosen rows of one of `benchmarks.open_book.SETS`."""

    name: str
    rows: str = "all"
    most: int | None = None

    def written(self, data: Path, folder: Path, most: int | None) -> Path:
        """Write a table of their questions, without the texts and facts that give the answer away."""
        found = rows_of(self.name, data, self.rows, most or self.most).values()
        rows = [{key: cell for key, cell in row.items() if key not in _TELLING} for row in found]
        return written_rows(rows, folder / f"{self.name}-{self.rows}.csv")


@dataclasses.dataclass(frozen=True)
class Task:
    """What to train and evaluate on, and how the contexts are made."""

    train: Part
    judged: Part
    contexts: tuple[str, ...] = ("contexts.per=option", "contexts.tokens=64")


TASKS = {
    "openbookqa": Task(Part("openbookqa_train"), Part("openbookqa_dev")),
    "sciq": Task(Part("sciq", most=1_000), Part("sciq_held_out")),
    "qasc": Task(Part("qasc_train", most=1_500), Part("qasc", most=500)),
    "llmse": Task(Part("llmse_science", "even"), Part("llmse_science", "odd")),
    "extra": Task(Part("extra_6k"), Part("extra_500"), ("contexts.tokens=64",)),
}


def prepared(
    task: Task, data: Path, folder: Path, wikipedia: Path | None, most: int | None, encoder: str = ""
) -> tuple[Path, Path, dict[Path, Path]]:
    """The tables to learn from and to be judged by, and the contexts of each."""
    folder.mkdir(parents=True, exist_ok=True)
    learnt, judged = (part.written(data, folder, most) for part in (task.train, task.judged))
    index = index_of(task.judged.name, data, folder, wikipedia, encoder)
    contexts = {path: folder / f"{path.stem}.parquet" for path in (learnt, judged)}
    changes = [word for change in task.contexts for word in ("--set", change)]
    for path, out in contexts.items():
        kit("inference", "contexts", "--questions", path, "--index", index, "--out", out, *changes)
    return learnt, judged, contexts


def train(settings: Mapping[str, Any]) -> Path:
    """The ranker's folder, trained unless it exists; a killed training resumes."""
    flags = [word for key, value in settings.items() for word in ("--" + key.replace("_", "-"), value)]
    kit("training", "multiple-choice", *flags)
    return Path(settings["out"])


def answers(dataset: RankerDataset, ranker: Path) -> dict[str, Probabilities]:
    """Probabilities of both rankers, ``(n, k)`` each."""
    encoder = Encoder(DEFAULT_ENCODER)
    tables = {}
    for name, kind, options in (
        ("similarity", "similarity", {}), ("trained", "trained", {"folder": str(ranker)})
    ):  # fmt: skip
        with make_ranker(kind, options, encoder=encoder, index=None) as made:
            tables[name] = made.probabilities(dataset.questions, dataset.contexts)
    return tables


def table_of(judged: RankerDataset, tables: dict[str, Probabilities]) -> list[dict[str, Any]]:
    """One line per ranker: MAP@3, accuracy, and the difference to the first."""
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
    flags.add_argument("--index", type=Path, help="index of Wikipedia articles, for the task extra")
    flags.add_argument("--encoder", default="", help="a trained retriever: finds contexts, and is the start")
    flags.add_argument("--runs", type=Path, default=Path("runs/rankers"), help="folder for all outputs")
    arguments = flags.parse_args()
    task = TASKS[arguments.task]
    folder = arguments.runs / (arguments.task + ("-quick" if arguments.quick else ""))
    most = _QUICK_ROWS if arguments.quick else None
    learnt, judged, contexts = prepared(
        task, arguments.data, folder, arguments.index, most, arguments.encoder
    )
    settings = {
        "questions": learnt, "contexts_file": contexts[learnt], "exclude": judged, "out": folder / "ranker",
        **({"epochs": 0.2} if arguments.quick else {}),
        **({"model": arguments.encoder} if arguments.encoder else {}),
    }  # fmt: skip
    config = HERE / f"ranker_{arguments.task}.yaml"
    train({"config": config, **settings})
    told = read_settings(MultipleChoiceRun, config, (), {**settings, "exclude": (judged,)})
    table, note = judge(told, RankerDataset.read(judged, contexts[judged]))
    report(f"A trained ranker: {learnt.stem} to {judged.stem}", table, arguments.json, note)
    return 0


def judge(settings: MultipleChoiceRun, judged: RankerDataset) -> tuple[list[dict[str, Any]], str]:
    """The table of the trained ranker, the training-free one and their blend, and a note on its origin."""
    learnt, held = split_questions(settings)
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
    return table_of(judged, tables), note


if __name__ == "__main__":
    sys.exit(run_program(main))
