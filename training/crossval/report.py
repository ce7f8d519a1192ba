"""The results of a cross-validation as one typed object, printed as text and written as metrics.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaggle_rag.ensembling.blending import FittedWeights
from kaggle_rag.evaluation.metrics import Comparison, Interval
from kaggle_rag.evaluation.scaling import Calibration
from kaggle_rag.evaluation.slices import PositionBias, Slice
from kaggle_rag.rankers.seen import Seen
from kaggle_rag.runtime.console import duration
from kaggle_rag.runtime.words import counted
from training.crossval.settings import BLEND, STACKED

_DIGITS = 4


@dataclasses.dataclass(frozen=True)
class RankerScores:
    """Metrics of one ranker or mix on questions it was not fitted on.

    ``log_loss`` is in nats, ``ece`` the expected calibration error. ``by_seed`` has the MAP@3 with each seed
    alone, of a mean over seeds or a blend of such.
    """

    map3: Interval
    accuracy: float
    log_loss: float
    folds: tuple[Interval, ...]
    ece: Interval
    by_seed: tuple[float, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "map@3": _rounded(self.map3), "accuracy": round(self.accuracy, _DIGITS),
            "log loss": round(self.log_loss, _DIGITS), "ece": _rounded(self.ece),
            "folds": [_rounded(fold) for fold in self.folds],
            **({"by seed": list(self.by_seed)} if self.by_seed else {}),
        }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class WeightsReport:
    """The blend's weights and calibrations by ranker.

    ``against_written``: compared with the solution's weights.
    """

    rankers: tuple[str, ...]
    fitted: FittedWeights
    calibrations: tuple[Calibration, ...]
    against_written: Comparison | None = None

    def by_ranker(self) -> dict[str, float]:
        return self._named(self.fitted.weights)

    def as_json(self) -> dict[str, Any]:
        fitted = self.fitted
        written = {"against those of the solution": str(self.against_written)} if self.against_written else {}
        return {
            "weights": self.by_ranker(), "temperatures": self._temperatures(), **self._vectors(),
            "tried": fitted.tried and self._named(fitted.tried),
            "fitted against equal": fitted.score and str(fitted.score),
            "log loss of fitted against equal": fitted.loss and str(fitted.loss),
            "refused": fitted.refused, **written,
        }  # fmt: skip

    def _temperatures(self) -> dict[str, float]:
        return self._named(tuple(each.temperature for each in self.calibrations))

    def _vectors(self) -> dict[str, Any]:
        told = {name: each.settings for name, each in zip(self.rankers, self.calibrations) if each.factors}
        return {"vectors": told} if told else {}

    def _named(self, weights: tuple[float, ...]) -> dict[str, float]:
        return dict(zip(self.rankers, (round(weight, _DIGITS) for weight in weights)))

    def lines(self) -> list[str]:
        weights = ", ".join(f"{name} {weight:.3f}" for name, weight in self.by_ranker().items())
        lines = [f"weights of the {BLEND}: {weights}"]
        if set(self._temperatures().values()) != {1.0}:
            named = ", ".join(f"{name} {value:.3f}" for name, value in self._temperatures().items())
            lines.append(f"temperatures at which they are blended (above 1: less sure): {named}")
        for name, each in zip(self.rankers, self.calibrations):
            if each.factors:
                letters = [f"{letter} {factor:.2f} {bias:+.2f}" for letter, factor, bias in each.by_letter()]
                lines.append(f"{name}, factor and bias of each letter: {', '.join(letters)}")
        if self.fitted.refused:
            lines.append(f"not fitted: {self.fitted.refused}")
        elif self.fitted.score:
            lines += [
                f"fitted; held-out MAP@3 minus that of equal weights: {self.fitted.score}",
                f"  and log loss, which decides where MAP@3 cannot: {self.fitted.loss}",
            ]
        if self.against_written:
            lines.append(f"MAP@3 minus that of the solution's weights: {self.against_written}")
        return lines


@dataclasses.dataclass(frozen=True)
class StackReport:
    """A stack compared with equal weights."""

    kind: str
    comparison: Comparison
    better: bool

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "against equal weights": str(self.comparison), "better": self.better}

    def lines(self) -> list[str]:
        better = "better" if self.better else "no better"
        return [f"{STACKED} ({self.kind}): {better} than equal weights: {self.comparison}"]


@dataclasses.dataclass(frozen=True)
class LeakCounts:
    """Near-duplicates among the questions, and rows of the test files that repeat one of them.

    ``details`` is the report's text, ``files`` its counts by file; both are empty without test files.
    ``seen`` are the questions that a backbone, or a ranker that is used as it is, was trained on.
    """

    near_duplicates: int
    contradicting: int
    between_folds: int
    notes: tuple[str, ...]
    details: str
    files: Mapping[str, Any]
    seen: Seen = dataclasses.field(default_factory=lambda: Seen({}, (), 0))

    def as_json(self) -> dict[str, Any]:
        return {
            "near-duplicates": self.near_duplicates, "contradicting": self.contradicting,
            "between folds": self.between_folds, "notes": list(self.notes), "text": self.details,
            "files": dict(self.files), "seen": self.seen.as_json(),
        }  # fmt: skip

    def lines(self) -> list[str]:
        counts = (
            f"leaks: {self.near_duplicates:,} near-duplicates ({self.contradicting:,} contradict), "
            f"{self.between_folds:,} of them between folds"
        )
        notes = (f"note: {note}" for note in (*self.notes, *self.seen.notes()))
        return [counts, *notes, *filter(None, [self.details])]


@dataclasses.dataclass(frozen=True)
class CrossValidationReport:
    """All metrics of a finished cross-validation.

    Attributes
    ----------
    folds : questions of each fold.
    chance : MAP@3 of a random order.
    scores : by ranker, the blend and the stack among them.
    detectable : the difference of MAP@3 that these questions show four times out of five, between two
        rankers, and between two that differ by their seed alone; empty for a single one.
    paste : the lines to paste into solution.yaml.
    solution : the file that ``--final`` wrote.
    """

    run: Path
    folds: tuple[int, ...]
    chance: float
    scores: Mapping[str, RankerScores]
    detectable: Mapping[str, float]
    weights: WeightsReport
    stack: StackReport | None
    slices: tuple[Slice, ...]
    bias: Mapping[str, PositionBias]
    leaks: LeakCounts
    paste: tuple[str, ...]
    solution: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """The contents of metrics.json."""
        return {
            "run": str(self.run), "questions": sum(self.folds), "folds": list(self.folds),
            "chance": round(self.chance, _DIGITS),
            "scores": {name: score.as_json() for name, score in self.scores.items()},
            "detectable": {kind: round(each, _DIGITS) for kind, each in self.detectable.items()},
            "weights": self.weights.as_json(), "stack": self.stack and self.stack.as_json(),
            "slices": [{**dataclasses.asdict(each), "text": str(each)} for each in self.slices],
            "position bias": {name: _bias(each) for name, each in self.bias.items()},
            "leaks": self.leaks.as_json(), "paste": list(self.paste),
            **({"solution": str(self.solution)} if self.solution else {}),
        }  # fmt: skip

    def text(self) -> str:
        """What ``cross-validate`` prints."""
        slices = [
            f"slices of the {BLEND}: questions, MAP@3, MAP@3 of the rest, p by Holm", *map(str, self.slices)
        ]
        mixes = [*self.weights.lines(), *(self.stack.lines() if self.stack else [])]
        bias = [f"positions, {BLEND}:", str(self.bias[BLEND])]
        sections = [self._scores(), mixes, slices, bias, self.leaks.lines(), self._next()]
        return "\n\n".join("\n".join(section) for section in sections)

    def _scores(self) -> list[str]:
        wide = max(map(len, self.scores))
        lines = [
            f"{self.run}: {counted(sum(self.folds), 'question')} in {counted(len(self.folds), 'fold')}, "
            f"chance {self.chance:.3f}",
            "",
            f"{'MAP@3':<{wide}}  {'all folds':<22}accuracy  log loss  calibration error",
        ]
        for name, score in self.scores.items():
            rest = f"{score.accuracy:>8.3f}{score.log_loss:>10.3f}  {score.ece}"
            lines.append(f"{name:<{wide}}  {score.map3!s:<22}{rest}")
        for name, score in self.scores.items():
            if score.by_seed:
                lines.append(f"{name}, with one seed: " + "  ".join(f"{each:.3f}" for each in score.by_seed))
        if self.detectable:
            each = ", ".join(f"between {kind} {value:.3f}" for kind, value in self.detectable.items())
            lines += ["", f"minimum detectable difference (5 % level, 80 % power): {each}"]
        lines += ["", "MAP@3 by fold (questions):"]
        for fold, count in enumerate(self.folds):
            each = "  ".join(f"{name} {score.folds[fold]}" for name, score in self.scores.items())
            lines.append(f"fold {fold} ({count:,}): {each}")
        return lines

    def _next(self) -> list[str]:
        if self.solution is None:
            return ["for solution.yaml (--final trains on all questions and writes it):", *self.paste]
        return [
            f"{self.solution}: python -m inference submit --config {self.solution} --questions TEST "
            "--out submission.csv",
            "  (with --index INDEX, or the --contexts-file of TEST, if its rankers read contexts)",
        ]


@dataclasses.dataclass(frozen=True)
class MissingFolds:
    """A cross-validation with folds that other sessions have yet to train."""

    run: Path
    folds: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        return {"run": str(self.run), "missing folds": list(self.folds)}

    def text(self) -> str:
        missing = ", ".join(map(str, self.folds))
        return f"{self.run}: still to train: fold {missing} (--fold N for one, all without it)"


@dataclasses.dataclass(frozen=True)
class DryRun:
    """What a cross-validation would need: questions per fold, and ``seconds`` per ranker over all folds."""

    folds: tuple[int, ...]
    near_duplicates: int
    notes: tuple[str, ...]
    runs: int
    seconds: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        return {
            "dry run": True, "folds": list(self.folds), "near-duplicates": self.near_duplicates,
            "notes": list(self.notes), "runs": self.runs,
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
        }  # fmt: skip

    def text(self) -> str:
        sizes = ", ".join(f"{count:,}" for count in self.folds)
        alike = counted(self.near_duplicates, "near-duplicate stays", "near-duplicates stay")
        lines = [f"folds of {sizes} questions; {alike} together"]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"{name}: about {duration(seconds)}" for name, seconds in self.seconds.items()]
        total = duration(sum(self.seconds.values()))
        runs = counted(self.runs, "run")
        return "\n".join([*lines, f"{runs}, about {total}. Nothing was written."])


def _rounded(interval: Interval) -> dict[str, float]:
    return {key: round(value, _DIGITS) for key, value in dataclasses.asdict(interval).items()}


def _bias(bias: PositionBias) -> dict[str, Any]:
    tables = {"given": bias.given, "first": bias.first, "right": bias.right}
    shares = {key: [round(float(x), _DIGITS) for x in table] for key, table in tables.items()}
    return {"letters": bias.letters, **shares, "p_value": round(bias.p_value, _DIGITS), "text": str(bias)}
