"""The rankers of a solution as a cross-validation asks them: trained for each fold, or asked as they are."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kaggle_rag.config import RankerSettings, Solution
from kaggle_rag.index.manifest import MANIFEST
from kaggle_rag.models.card import CARD
from kaggle_rag.models.checkpoints import resolve as resolve_model
from kaggle_rag.models.checkpoints import weights_sum
from kaggle_rag.rankers.registry import make_ranker
from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.faults import Gathered
from kaggle_rag.runtime.files import sha256
from kaggle_rag.runtime.settings import resolve, validated
from training.crossval.settings import BLEND, STACKED
from training.loop.checks import require_packages
from training.loop.run_folder import Run
from training.rankers.settings import COMMANDS, RankerRun

# What the cross-validation decides of every training run.
_GIVEN = (
    "questions", "contexts", "contexts_file", "limit", "out", "folds", "fold", "validation",
    "validation_contexts",
)  # fmt: skip


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
    name : what it is called in tables and files.
    settings : its lines of the solution.
    command : the program that trains it; ``None``: it is asked as it is.
    train : settings of its training, without what the cross-validation decides.
    """

    name: str
    settings: RankerSettings
    command: str | None
    train: dict[str, Any]

    def run(self, paths: RunPaths, fold: int | None) -> RankerRun:
        """The settings of one fold's run, or of one on all questions.

        Raises
        ------
        ConfigError : a setting of ``train`` that is not there or does not fit.
        """
        assert self.command is not None
        given: dict[str, Any] = {
            "questions": paths.questions, "contexts_file": paths.contexts, "limit": paths.limit,
            "out": paths.folder / self.name / ("final" if fold is None else f"fold-{fold}"),
        }  # fmt: skip
        if fold is not None:
            given |= {"folds": paths.folds, "fold": fold}
        train = {key: value for key, value in self.train.items() if paths.contexts or "weaker" not in key}
        return validated(COMMANDS[self.command], {**train, **given}, f"train of the ranker {self.name!r}")

    def check(self, paths: RunPaths) -> None:
        """Raise ``KitError`` for what is wrong with its settings, files and backbone, before any training."""
        if self.command is None:
            make_ranker(self.settings.kind, self.settings.options, encoder=None, index=None)
            return
        from training.rankers.train import require_family

        require_family(self.command, self.run(paths, None).model)

    def check_files(self, found: Gathered, paths: RunPaths) -> None:
        """Keep what is wrong with settings, packages, files and the backbone's folder."""
        if self.command is None:
            return
        with found.check():
            settings = self.run(paths, None)
            with found.check():
                require_packages(settings.packages())
            with found.check():
                settings.check_inputs()
            with found.check():
                resolve_model(settings.model)

    def idle(self, paths: RunPaths) -> Iterator[str]:
        """Settings of ``train`` that change nothing, a line each."""
        if self.command is not None:
            yield from (f"{self.name}: {line}" for line in self.run(paths, None).idle())

    def made_by(self, solution: Solution, paths: RunPaths, fold: int | None) -> dict[str, Any]:
        """All that decides its predictions of a fold, as plain JSON; asks for files, not for models."""
        options = {key: value for key, value in self.settings.options.items() if key != "device"}
        if self.command is not None and fold is not None:
            plan = Run(self.command, self.run(paths, fold)).plan
            return {"plan": plan, "options": {k: v for k, v in options.items() if k != "folder"}}
        made: dict[str, Any] = {"kind": self.settings.kind, "options": options, "encoder": solution.encoder}
        made["questions"] = sha256(paths.questions)
        if paths.limit:
            made["limit"] = paths.limit
        made["contexts"] = sha256(paths.contexts) if paths.contexts else None
        made["index"] = sha256(solution.index / MANIFEST) if solution.index else None
        if "folder" in options:
            from kaggle_rag.rankers.trained import located

            folder = located(str(options["folder"]))
            card = folder / CARD
            # The card holds the checksum of every file beside it.
            made["weights"] = sha256(card) if card.is_file() else weights_sum(folder)
        return made


def specs_of(solution: Solution, folder: Path) -> tuple[RankerSpec, ...]:
    """The solution's rankers, each with a name of its own; paths of ``train`` are relative to ``folder``.

    Raises
    ------
    ConfigError : ``train`` of a ranker that is not trained, without a command, or with a setting that
        the cross-validation makes.
    """
    specs: list[RankerSpec] = []
    for number, settings in enumerate(solution.rankers):
        where = f"rankers.{number}.train"
        train = dict(settings.train or {})
        command = None if settings.train is None else _command(settings.kind, train, where)
        resolve(train, COMMANDS.get(command or "", RankerRun), folder)
        backbone = train.get("model") or settings.options.get("folder") or settings.kind
        name = _name(str(backbone), settings.kind, {spec.name for spec in specs})
        specs.append(RankerSpec(name, settings, command, train))
    return tuple(specs)


def _command(kind: str, train: dict[str, Any], where: str) -> str:
    """The program that trains it, taken out of ``train``."""
    if kind != "trained":
        raise ConfigError(
            f"a ranker of the kind {kind!r} is not trained", where=where, cure="leave train out"
        )
    if (command := train.pop("command", None)) not in COMMANDS:
        raise ConfigError(
            f"the command {command!r}", where=f"{where}.command", expected="one of " + ", ".join(COMMANDS)
        )
    if given := [key for key in _GIVEN if key in train]:
        raise ConfigError(
            f"{given[0]!r} is not a setting of one ranker", where=where,
            expected="the cross-validation gives every fold its questions, contexts and folder",
            cure="leave it out",
        )  # fmt: skip
    return str(command)


def _name(backbone: str, kind: str, taken: set[str]) -> str:
    """The backbone's, the folder's or the kind's name, with a number where it is taken."""
    plain = re.sub(r"[^\w.-]+", "-", Path(backbone).name).strip(".-") or kind
    taken = taken | {BLEND, STACKED}
    return next(
        name for n in range(1, len(taken) + 2) if (name := plain if n == 1 else f"{plain}-{n}") not in taken
    )
