"""The rankers of a solution as a cross-validation uses them: trained for each fold, or used as is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kaggle_rag.config import RankerSettings, Solution
from kaggle_rag.index.manifest import MANIFEST
from kaggle_rag.models.checkpoints import resolve as resolve_model
from kaggle_rag.rankers.identity import free_name, identity
from kaggle_rag.rankers.registry import learns_at_once, make_ranker
from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.faults import Gathered
from kaggle_rag.runtime.files import sha256
from kaggle_rag.runtime.settings import resolve, validated
from training.crossval.settings import BLEND, STACKED
from training.loop.checks import require_packages
from training.loop.run_folder import Run
from training.rankers.settings import COMMANDS, RankerRun
from training.rankers.teacher import require_teacher

# Settings that the cross-validation chooses for every training run.
_GIVEN = (
    "questions", "contexts", "contexts_file", "limit", "out", "folds", "fold", "validation",
    "validation_contexts",
)  # fmt: skip


# Settings of what is read in contexts: without any they mean nothing.
_OF_CONTEXTS = ("weaker_contexts", "weaker", "marginal")
_MOST_SEEDS = 20


class RunPaths(NamedTuple):
    """What the runs of all folds share: the files they learn from, and where they write."""

    folder: Path
    questions: Path
    contexts: Path | None
    folds: Path
    limit: int | None = None


@dataclasses.dataclass(frozen=True)
class RankerSpec:
    """One ranker.

    Attributes
    ----------
    name : its name in tables and files.
    group : the name of the first of those that differ by their seed alone (``train.seeds``).
    settings : its entry in the solution.
    command : the command that trains it; ``None`` if it is used as is.
    train : settings of its training, without those that the cross-validation chooses.
    """

    name: str
    settings: RankerSettings
    command: str | None
    train: dict[str, Any]
    group: str = ""

    @property
    def learns(self) -> bool:
        """Whether each fold has its own: trained by a command, or fitted in seconds."""
        return self.command is not None or self.learns_at_once

    @property
    def learns_at_once(self) -> bool:
        return learns_at_once(self.settings.kind, self.settings.options)

    def run(self, paths: RunPaths, fold: int | None) -> RankerRun:
        """The settings of the run of one fold, or (``None``) of the run on all questions.

        Raises
        ------
        ConfigError : an unknown or invalid setting in ``train``.
        """
        assert self.command is not None
        given: dict[str, Any] = {
            "questions": paths.questions, "contexts_file": paths.contexts, "limit": paths.limit,
            "out": paths.folder / self.name / ("final" if fold is None else f"fold-{fold}"),
        }  # fmt: skip
        if fold is not None:
            given |= {"folds": paths.folds, "fold": fold}
        train = {key: value for key, value in self.train.items() if paths.contexts or key not in _OF_CONTEXTS}
        return validated(COMMANDS[self.command], {**train, **given}, f"train of the ranker {self.name!r}")

    def untaught(self) -> RankerSpec:
        """The same ranker, trained without a teacher."""
        train = {key: value for key, value in self.train.items() if not key.startswith("teacher")}
        return dataclasses.replace(self, train=train)

    def check(self, paths: RunPaths) -> None:
        """Raise ``KitError`` for a fault in its settings, files or backbone, before any training."""
        if not self.learns:
            make_ranker(self.settings.kind, self.settings.options, encoder=None, index=None)
        if self.command is None:
            return
        from training.rankers.train import require_family

        settings = self.run(paths, None)
        require_family(self.command, settings.model)
        require_teacher(settings)

    def check_files(self, faults: Gathered, paths: RunPaths) -> None:
        """Record the faults of its settings, packages, files and backbone folder."""
        if self.command is None:
            return
        with faults.check():
            settings = self.run(paths, None)
            with faults.check():
                require_packages(settings.packages())
            with faults.check():
                settings.check_inputs()
            with faults.check():
                resolve_model(settings.model)

    def idle(self, paths: RunPaths) -> Iterator[str]:
        """Settings of ``train`` without effect, one line each."""
        if self.command is not None:
            yield from (f"{self.name}: {line}" for line in self.run(paths, None).idle())

    def made_by(self, solution: Solution, paths: RunPaths, fold: int | None) -> dict[str, Any]:
        """Everything that determines its predictions of a fold, as plain JSON; needs files, but no models."""
        options = {key: value for key, value in self.settings.options.items() if key != "device"}
        if self.command is not None and fold is not None:
            plan = Run(self.command, self.run(paths, fold)).plan
            return {"plan": plan, "options": {k: v for k, v in options.items() if k != "folder"}}
        limit = {"limit": paths.limit} if paths.limit else {}
        # What it learns follows from the questions and the folds, which the folder has once and for all.
        at_once = {"fold": fold} if fold is not None else {}
        return {
            **at_once,
            **identity(self.settings.kind, self.settings.options, solution.encoder), **limit,
            "questions": sha256(paths.questions),
            "contexts": sha256(paths.contexts) if paths.contexts else None,
            "index": sha256(solution.index / MANIFEST) if solution.index else None,
        }  # fmt: skip


def specs_of(solution: Solution, folder: Path) -> tuple[RankerSpec, ...]:
    """The solution's rankers, each with a unique name; paths in ``train`` are relative to ``folder``.

    Raises
    ------
    ConfigError : ``train`` for a kind that is not trained, without a command, or with a setting that
        the cross-validation chooses.
    """
    specs: list[RankerSpec] = []
    for number, settings in enumerate(solution.rankers):
        where = f"rankers.{number}.train"
        train = dict(settings.train or {})
        command = None if settings.train is None else _command(settings.kind, train, where)
        resolve(train, COMMANDS.get(command or "", RankerRun), folder)
        backbone = train.get("model") or settings.options.get("folder") or settings.kind
        group = ""
        for changes in _by_seed(train, where):
            taken = {BLEND, STACKED, *(spec.name for spec in specs)}
            name = free_name(str(backbone), settings.kind, taken)
            group = group or name
            specs.append(RankerSpec(name, settings, command, {**train, **changes}, group))
    return tuple(specs)


def _by_seed(train: dict[str, Any], where: str) -> list[dict[str, int]]:
    """What differs between the trainings of one entry; its key ``seeds`` is removed from ``train``."""
    count, first = train.pop("seeds", 1), train.get("seed", 0)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _MOST_SEEDS:
        raise ConfigError(
            f"{count!r}", where=f"{where}.seeds", expected=f"how many to train, 1 to {_MOST_SEEDS}"
        )
    if isinstance(first, bool) or not isinstance(first, int):
        raise ConfigError(f"{first!r}", where=f"{where}.seed", expected="a whole number")
    if count == 1:
        return [{}]
    return [{"seed": first + number} for number in range(count)]


def _command(kind: str, train: dict[str, Any], where: str) -> str:
    """The command that trains it, removed from ``train``."""
    if kind != "trained":
        raise ConfigError(
            f"a ranker of kind {kind!r} is not trained", where=where, cure="remove train"
        )
    if (command := train.pop("command", None)) not in COMMANDS:
        raise ConfigError(
            f"no command {command!r}", where=f"{where}.command", expected="one of " + ", ".join(COMMANDS)
        )
    if given := [key for key in _GIVEN if key in train]:
        raise ConfigError(
            f"{given[0]!r} cannot be set for one ranker", where=where,
            expected="the cross-validation gives every fold its questions, contexts and folder",
            cure="remove it",
        )  # fmt: skip
    return str(command)
