"""Cross-validations side by side: which settings differ, and is any run better than the first?"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kaggle_rag.data.predictions import Predictions
from kaggle_rag.evaluation.metrics import (
    Comparison,
    Interval,
    average_precisions,
    bootstrap,
    paired_bootstrap,
    paired_with_seeds,
)
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError
from kaggle_rag.runtime.words import counted
from training.crossval.experiment import METRICS, OOF, read_run
from training.crossval.settings import BLEND, STACKED

_FILES = ("questions", "contexts")


class _Scored(NamedTuple):
    """A run: its configuration, AP@3 and right option of each question, MAP@3 by seed.

    Questions are known by their fingerprint and, of those that are there several times, their turn.

    ``single_seed`` : another seed would give it another score, and nothing tells how far off. ``sums`` : the
    checksums of its files.
    """

    folder: Path
    configuration: dict[str, Any]
    values: dict[tuple[str, int], float]
    answers: dict[tuple[str, int], int]
    by_seed: list[float]
    single_seed: bool
    sums: dict[str, str | None]


@dataclasses.dataclass(frozen=True)
class ComparedRun:
    """One run, compared with the first on the questions they share, and over their seeds.

    Attributes
    ----------
    score : MAP@3 over its own questions.
    shared : shared questions with the same answer; ``other_answers``: with another one in the first run.
    against : ``None`` for the first run itself.
    """

    folder: Path
    questions: int
    score: Interval
    shared: int = 0
    other_answers: int = 0
    against: Comparison | None = None

    def as_json(self) -> dict[str, Any]:
        row = {"run": str(self.folder), "questions": self.questions, "map@3": str(self.score),
               "mean": self.score.mean}  # fmt: skip
        if self.against is None:
            return row
        return {
            **row, "shared": self.shared, "other answers": self.other_answers,
            "difference": dataclasses.asdict(self.against.difference), "p": self.against.p_value,
            "distinguishable": self.against.distinguishable, "detectable": self.against.smallest,
            "text": str(self.against),
        }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ComparisonReport:
    """Runs side by side: the settings that differ (one value per run), and the scores.

    ``single_seeds`` are runs with a ranker that was trained with one seed.
    """

    ranker: str
    differences: dict[str, list[Any]]
    runs: tuple[ComparedRun, ...]
    single_seeds: tuple[Path, ...]

    def as_json(self) -> dict[str, Any]:
        """The table as plain JSON."""
        return {
            "ranker": self.ranker, "differences": self.differences,
            "runs": [run.as_json() for run in self.runs],
            "single seeds": [str(folder) for folder in self.single_seeds],
        }  # fmt: skip

    def text(self) -> str:
        """The table as readable text."""
        wide = max(len(str(run.folder)) for run in self.runs)
        lines = [f"{'run':<{wide}}  questions  MAP@3 of {self.ranker:<14}  against the first"]
        for run in self.runs:
            against = f"{run.against} on {counted(run.shared, 'question')}" if run.against else "-"
            if run.against and run.against.smallest is not None:
                against += f"; detectable from ±{run.against.smallest:.3f}"
            if run.other_answers:
                against += f" ({run.other_answers:,} more have different answers)"
            lines.append(f"{run.folder!s:<{wide}}  {run.questions:>9,}  {run.score!s:<23}  {against}")
        if self.single_seeds:
            named = ", ".join(map(str, self.single_seeds))
            lines.append(
                f"note: trained with one seed: {named}; what another seed would change is not in these "
                "intervals (train: {seeds: 3})"
            )
        lines.append("")
        lines += [f"{key}: {' | '.join(map(str, each))}" for key, each in self.differences.items()]
        return "\n".join(lines if self.differences else [*lines, "the same configuration"])


def compare(folders: Sequence[Path], ranker: str = BLEND) -> ComparisonReport:
    """Compare each run with the first, on the questions they share with the same answer.

    Raises
    ------
    ConfigError : fewer than two runs, or a run without that ranker.
    ArtifactError : a folder without a finished cross-validation.
    InputError : a run that shares no question with the first.
    """
    if len(folders) < 2:
        raise ConfigError("there is only one run to compare", expected="two or more folders")
    runs = [_read(folder, ranker) for folder in folders]
    settings = [_flat(run.configuration) for run in runs]
    keys = sorted({key for each in settings for key in each})
    values = {key: [each.get(key) for each in settings] for key in keys} | _files(runs)
    return ComparisonReport(
        ranker,
        {key: each for key, each in values.items() if len(set(map(repr, each))) > 1},
        tuple(_against(runs[0], run) for run in runs),
        tuple(run.folder for run in runs if run.single_seed),
    )


def _files(runs: Sequence[_Scored]) -> dict[str, list[Any]]:
    """The names of each run's files, where these are other files and not the same ones elsewhere."""
    found: dict[str, list[Any]] = {}
    for key in _FILES:
        names, sums = [run.configuration.get(key) for run in runs], [run.sums[key] for run in runs]
        if len(set(sums)) == 1:
            names = sums
        elif len(set(names)) < len(set(sums)):
            names = [f"{name} (sha256 {str(checksum)[:8]})" for name, checksum in zip(names, sums)]
        found[key] = names
    return found


def _read(folder: Path, ranker: str) -> _Scored:
    configuration = read_run(folder)
    if not ((folder / OOF).is_file() and (folder / METRICS).is_file()):
        raise ArtifactError(
            "this cross-validation is not finished", where=folder, cure="rerun its command to resume it"
        )
    predictions = Predictions.read(folder / OOF)
    rankers = configuration["configuration"]["rankers"]
    if ranker not in (names := [*rankers, *({BLEND, STACKED} & predictions.tables.keys())]):
        raise ConfigError(
            f"the run has no ranker {ranker!r}", where=folder,
            expected="one of " + ", ".join(map(repr, names)),
        )  # fmt: skip
    # Of several seeds, the mean is compared.
    seeds = (rankers.get(ranker, {}).get("train") or {}).get("seeds", 1)
    mean = f"{ranker}, {seeds} seeds"
    shown = mean if mean in predictions.tables else ranker
    table = predictions.tables[shown]
    values = average_precisions(table, predictions.answers, predictions.present)
    metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    by_seed = metrics["scores"][shown].get("by seed", [])
    decided = configuration["decided"]
    splits = {"folds": decided["folds"], "seed": decided["seed"]}
    turns: Counter[str] = Counter()
    keys = []
    for mark in predictions.marks:
        keys.append((mark, turns[mark]))
        turns[mark] += 1
    return _Scored(
        folder, configuration["configuration"] | splits,
        dict(zip(keys, values.tolist())),
        dict(zip(keys, predictions.answers.tolist())),
        by_seed, _single_seed(rankers, ranker, by_seed), {key: decided.get(key) for key in _FILES},
    )  # fmt: skip


def _single_seed(rankers: dict[str, Any], ranker: str, by_seed: list[float]) -> bool:
    named = {ranker: rankers[ranker]} if ranker in rankers else rankers
    trainings = [each["train"] for each in named.values() if each.get("train")]
    return any(not by_seed or train.get("seeds", 1) == 1 for train in trainings)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: each
        for part, inner in value.items()
        for key, each in _flat(inner, f"{name}.{part}" if name else str(part)).items()
    }


def _against(first: _Scored, run: _Scored) -> ComparedRun:
    score = bootstrap(list(run.values.values()))
    if run is first:
        return ComparedRun(run.folder, len(run.values), score)
    both = [mark for mark in first.values if mark in run.values]
    if not both:
        raise InputError(
            f"this run shares no question with {first.folder}", where=run.folder,
            expected="runs on the same questions, identified by prompt and options",
        )  # fmt: skip
    same = [mark for mark in both if first.answers[mark] == run.answers[mark]]
    if not same:
        raise InputError(f"no shared question has the same answer as in {first.folder}", where=run.folder)
    values, baseline = ([each.values[mark] for mark in same] for each in (run, first))
    if run.by_seed or first.by_seed:
        against = paired_with_seeds(values, baseline, [run.by_seed, first.by_seed])
    else:
        against = paired_bootstrap(values, baseline)
    return ComparedRun(run.folder, len(run.values), score, len(same), len(both) - len(same), against)
