"""What a way of training adds to a ranker, over three seeds, on the questions of another file or other half.

Every way is the training of benchmarks/ranker_TASK.yaml with a few settings changed, by the command that a
user types. ``seeds`` is the mean of the plain rankers' probabilities, ``soup`` the mean of their weights,
and ``distilled`` also learns what such an ensemble says of each question out of fold. A killed run resumes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from benchmarks.common import kept_answers, kit, parser, report, seeds_flag
from benchmarks.ranker_training import HERE, TASKS, prepared
from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.metrics import average_precisions, bootstrap, paired_bootstrap, paired_over_seeds
from kaggle_rag.runtime.errors import run_program
from training.loop.run_folder import RECORD

PLAIN = "plain"
# Ways of training, as flags that differ from the plain ones.
WAYS: dict[str, tuple[str, ...]] = {
    PLAIN: (),
    "r_drop": ("--r-drop", "0.5"),
    "none_of_above": ("--none-of-above", "0.1"),
    "harder": ("--drop-best", "0.1", "--no-context", "0.1", "--drop-snippets", "0.2", "--rising", "true"),
    "borrowed_options": ("--borrowed-options", "0.3"),
    "label_smoothing": ("--label-smoothing", "0.1"),
    "pairwise": ("--loss", "pairwise"),
    "rag_sequence": ("--set", "marginal.kind=sequence"),
}  # fmt: skip
MADE = ("seeds", "soup", "distilled")
Values = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Bench:
    """A task's files, and what every training of it is told: ``settings`` replace those of its file."""

    folder: Path
    config: Path
    learnt: Path
    contexts: Path
    judged: Path
    judged_contexts: Path
    seeds: int
    limit: int | None
    settings: dict[str, Any]

    @property
    def limited(self) -> list[Any]:
        return ["--limit", self.limit] if self.limit else []

    def trained(self, way: str, seed: int, flags: Sequence[Any]) -> Path:
        """A ranker's folder, trained unless it exists."""
        out = self.folder / f"{way}-{seed}"
        kit(
            "training", "multiple-choice", "--config", self.config, "--questions", self.learnt,
            "--contexts-file", self.contexts, "--exclude", self.judged, "--out", out, "--seed", seed, *flags,
            *self.limited, *(word for key, value in self.settings.items() for word in (f"--{key}", value)),
        )  # fmt: skip
        return out

    def answers(self, ranker: Path) -> Probabilities:
        """Its probabilities of the judged questions, ``(n, k)``; kept beside it."""
        questions = Questions.read(self.judged)
        contexts = read_contexts(self.judged_contexts, questions)
        return kept_answers(ranker, questions, contexts, self.judged.stem, self.settings.get("precision"))

    def values(self, table: Probabilities) -> Values:
        questions = Questions.read(self.judged)
        return average_precisions(table, questions.answers, questions.present)


def trained(bench: Bench, way: str) -> list[Path]:
    return [bench.trained(way, seed, WAYS[way]) for seed in range(bench.seeds)]


def distilled(bench: Bench) -> list[Path]:
    """Rankers that also learn what an ensemble of seeds says of each question out of fold."""
    recipe = {
        "command": "multiple-choice", "seeds": bench.seeds,
        **yaml.safe_load(bench.config.read_text(encoding="utf-8")),
        **{key.replace("-", "_"): value for key, value in bench.settings.items()},
    }  # fmt: skip
    experiment = bench.folder / "teacher.yaml"
    made = {
        "questions": str(bench.learnt.absolute()), "contexts_file": str(bench.contexts.absolute()),
        "rankers": [{"kind": "trained", "train": recipe}],
    }  # fmt: skip
    experiment.write_text(yaml.safe_dump(made), encoding="utf-8")
    run = bench.folder / "teacher"
    kit(
        "training", "cross-validate", experiment, "--folds", "3", "--out", run, "--against", bench.judged,
        *bench.limited,
    )  # fmt: skip
    taught = "--teacher", run / "oof.parquet"
    return [bench.trained("distilled", seed, taught) for seed in range(bench.seeds)]


def rows_of(bench: Bench, ways: Sequence[str]) -> list[dict[str, Any]]:
    """A row a way, against the plain one."""
    folders = trained(bench, PLAIN)
    plain = [bench.answers(each) for each in folders]
    base = np.stack([bench.values(each) for each in plain])
    rows = [_row(PLAIN, base, None, folders)]
    for way in ways:
        if way == "seeds":
            mean = bench.values(np.mean(plain, axis=0))
            # The ensemble has every seed in it: only questions are left to differ.
            rows.append(_row(way, mean[None], paired_bootstrap(mean, base.mean(axis=0)), ()))
        elif way == "soup":
            out = bench.folder / f"soup-of-{bench.seeds}"
            if not out.exists():
                kit("training", "soup", *folders, "--out", out)
            values = bench.values(bench.answers(out))
            rows.append(_row(way, values[None], paired_bootstrap(values, base.mean(axis=0)), ()))
        else:
            made = distilled(bench) if way == "distilled" else trained(bench, way)
            values = np.stack([bench.values(bench.answers(each)) for each in made])
            rows.append(_row(way, values, paired_over_seeds(values, base), made))
    return rows


def _row(way: str, values: Values, against: Any, folders: Sequence[Path]) -> dict[str, Any]:
    minutes = [json.loads((each / RECORD).read_text())["result"]["seconds"] / 60 for each in folders]
    means = values.mean(axis=1)
    return {
        "way": way, "MAP@3": str(bootstrap(values.mean(axis=0))),
        "by seed": " ".join(f"{mean:.3f}" for mean in means) if len(means) > 1 else None,
        "against plain": None if against is None else str(against),
        "detectable": f"±{against.smallest:.3f}" if against is not None and against.smallest else None,
        "minutes a seed": f"{np.mean(minutes):.0f}" if minutes else None,
    }  # fmt: skip


def in_words(settings: dict[str, Any]) -> str:
    """What every training is told, behind a note's other words."""
    return "".join(f", {key} {value}" for key, value in settings.items())


def changes_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What every training is told instead of what the task's file says."""
    epochs, frozen = 0.5 if arguments.quick else arguments.epochs, arguments.frozen_layers
    return {
        **({"epochs": epochs} if epochs else {}),
        **({"frozen-layers": frozen, "frozen-embeddings": "true"} if frozen else {}),
        **({"precision": arguments.precision} if arguments.precision else {}),
    }


def training_flags(flags: argparse.ArgumentParser) -> None:
    """The flags of `changes_of`."""
    flags.add_argument("--epochs", type=float, metavar="N", help="default: those of the task's file")
    flags.add_argument(
        "--frozen-layers", type=int, metavar="N",
        help="train the layers above the lowest N alone, embeddings frozen too, in less time (default: all)",
    )  # fmt: skip
    flags.add_argument(
        "--precision", choices=("fp32", "bf16"), help="of trainings and answers (default: fp32)"
    )


def run_flags(flags: argparse.ArgumentParser) -> None:
    """The flags that say what is trained, where, and from which data."""
    flags.add_argument("--learnt", type=int, metavar="N", help="questions to learn from (default: all)")
    training_flags(flags)
    seeds_flag(flags)
    flags.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data", help="shared data")
    flags.add_argument("--index", type=Path, help="index of Wikipedia articles, for the task extra")
    flags.add_argument("--runs", type=Path, default=Path("runs/what_helps"), help="folder for all outputs")


def bench_of(arguments: argparse.Namespace) -> Bench:
    """The files of a task, made unless they exist, and what its trainings are told."""
    quick, folder = arguments.quick, arguments.runs / (arguments.task + ("-quick" if arguments.quick else ""))
    learnt, judged, contexts = prepared(
        TASKS[arguments.task], arguments.data, folder, arguments.index, 24 if quick else None
    )
    return Bench(
        folder, HERE / f"ranker_{arguments.task}.yaml", learnt, contexts[learnt], judged, contexts[judged],
        2 if quick else arguments.seeds, arguments.learnt, changes_of(arguments),
    )  # fmt: skip


def main() -> int:
    flags = parser(str(__doc__))
    flags.formatter_class = argparse.RawDescriptionHelpFormatter
    flags.add_argument("task", choices=TASKS)
    ways = [*(way for way in WAYS if way != PLAIN), *MADE]
    flags.add_argument("--ways", nargs="+", default=ways, choices=ways)
    run_flags(flags)
    arguments = flags.parse_args()
    bench = bench_of(arguments)
    ways = ["none_of_above", "seeds"] if arguments.quick else arguments.ways
    learnt, count = len(Questions.read(bench.learnt)), len(Questions.read(bench.judged))
    note = (
        f"{arguments.learnt or learnt:,} questions of {bench.learnt.stem}, {count:,} judged; "
        f"{bench.seeds} seeds{in_words(bench.settings)}. Differences over seeds and questions (Student's t); "
        "of seeds and soup, paired bootstrap against the mean of the plain ones. 95 % intervals."
    )
    title = f"What helps: {bench.learnt.stem} to {bench.judged.stem}"
    report(title, rows_of(bench, ways), arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
