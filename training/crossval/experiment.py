"""What is cross-validated: questions, contexts and rankers, and the folder that stores the results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kaggle_rag.config import Solution, load
from kaggle_rag.data.contexts import QuestionContexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.rankers.checks import check_models, check_ranker
from kaggle_rag.rankers.registry import takes_index
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import ArtifactError, ConfigError
from kaggle_rag.runtime.faults import Gathered
from kaggle_rag.runtime.files import sha256, write_json
from kaggle_rag.runtime.words import counted
from kaggle_rag.runtime.work_folder import WorkFolder
from training.crossval.ranker_spec import RankerSpec, RunPaths, specs_of
from training.crossval.settings import CrossValidationSettings
from training.loop.run_folder import Run
from training.loop.settings import require_file
from training.rankers.dataset import RankerDataset

RUN, FOLDS, OOF, METRICS = "run.json", "folds.parquet", "oof.parquet", "metrics.json"
KIND = "kaggle-rag cross-validation"


class _ExperimentFolder(WorkFolder):
    """The folder itself is the result; several processes may train its folds side by side."""

    state = ""

    def stored_key(self) -> dict[str, Any] | None:
        stored = super().stored_key() or {}
        decided = stored.get("decided") if stored.get("kind") == KIND else None
        return decided if isinstance(decided, dict) else None


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything a cross-validation works on.

    Attributes
    ----------
    paths : its folder and files.
    tests : other question files, whose rows may repeat these questions.
    """

    settings: CrossValidationSettings
    solution: Solution
    specs: tuple[RankerSpec, ...]
    paths: RunPaths
    questions: Questions
    contexts: list[QuestionContexts] | None
    tests: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        return self.paths.folder

    @classmethod
    def open(cls, settings: CrossValidationSettings) -> Experiment:
        """Read everything and check what is cheap to check; nothing is written.

        Raises
        ------
        KitError : every fault of the settings and the files.
        """
        solution = load(settings.solution, settings.changes)
        questions, contexts = _files(settings, solution)
        specs = specs_of(solution, settings.solution.parent)
        paths = RunPaths(settings.folder, questions, contexts, settings.folder / FOLDS, solution.limit)
        named = (solution.questions,) if solution.questions != questions else ()
        tests = tuple(path for path in (*named, *settings.against) if path is not None)
        faults = Gathered()
        with faults.check():
            _require_folds(settings)
        dataset = None
        with faults.check():
            dataset = RankerDataset.read(questions, contexts, solution.limit)
            _require_fewer_folds(settings, len(dataset))
        for path in tests:
            with faults.check():
                require_file(path)
        _check_files(faults, solution, specs, paths)
        faults.tell()
        assert dataset
        for note in (dataset.unread(), *(f"note: {line}" for spec in specs for line in spec.idle(paths))):
            if note:
                say(note)
        for spec in specs:
            with faults.check():
                spec.check(paths)
        faults.tell()
        experiment = cls(settings, solution, specs, paths, dataset.questions, dataset.contexts, tests)
        experiment.refuse_strangers()
        return experiment

    @property
    def decided(self) -> dict[str, Any]:
        """What determines the folds; a folder holds one cross-validation."""
        # Folders made without a limit have no such key.
        limit = {"limit": self.paths.limit} if self.paths.limit else {}
        return {
            **limit,
            "questions": sha256(self.paths.questions),
            "contexts": sha256(self.paths.contexts) if self.paths.contexts else None,
            "folds": self.settings.folds, "seed": self.settings.seed, "alike": self.settings.alike,
        }  # fmt: skip

    def refuse_strangers(self) -> None:
        """Raise ``ArtifactError`` if the folder holds anything but this cross-validation."""
        _ExperimentFolder(
            self.folder, self.decided, "cross-validation", file=RUN,
            cure="choose another --out, or remove that folder first",
        ).require_ours()  # fmt: skip
        # Report folds trained with other settings before this run is recorded as theirs.
        for fold in range(self.settings.folds if self.paths.folds.is_file() else 0):
            for spec in self.specs:
                if spec.command:
                    Run(spec.command, spec.run(self.paths, fold)).require_own()

    def begin(self) -> None:
        """Write the settings, so that runs can be compared by them."""
        write_json(self.folder / RUN, {"kind": KIND, "decided": self.decided, **self.record})

    @property
    def record(self) -> dict[str, Any]:
        """The settings and the configuration, in a form that people can compare."""
        # Seeds of one ranker are one entry of the solution.
        rankers = {
            spec.name: spec.settings.model_dump(mode="json", exclude_none=True)
            for spec in self.specs
            if spec.group in ("", spec.name)
        }
        settings = {key: _plain(value) for key, value in dataclasses.asdict(self.settings).items()}
        files = {"questions": str(self.paths.questions), "contexts": str(self.paths.contexts or "none")}
        configuration = {**files, "blend": self.solution.blend, "rankers": rankers}
        return {"settings": settings, "configuration": configuration}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value.absolute()) if isinstance(value, Path) else value


def read_run(folder: Path) -> dict[str, Any]:
    """The contents of a folder's ``run.json``.

    Raises
    ------
    ArtifactError : the folder holds no cross-validation.
    """
    if not folder.is_dir():
        what = "this is a file" if folder.exists() else "no such folder"
        raise ArtifactError(
            what, where=folder, expected="a folder that python -m training cross-validate wrote",
            cure="check the spelling of the path",
        )  # fmt: skip
    try:
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
        if run["kind"] != KIND:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise ArtifactError(
            "this folder holds no cross-validation", where=folder,
            expected="a folder that python -m training cross-validate wrote",
            cure="check the path, or choose another --out",
        ) from None  # fmt: skip
    return dict(run)


def _require_folds(settings: CrossValidationSettings) -> None:
    if settings.folds < 2:
        raise ConfigError(f"--folds {settings.folds}", expected="at least two folds")
    if settings.fold is not None and not 0 <= settings.fold < settings.folds:
        what = f"--fold {settings.fold} of {settings.folds}"
        raise ConfigError(what, expected=f"0 to {settings.folds - 1}")


def _require_fewer_folds(settings: CrossValidationSettings, questions: int) -> None:
    if settings.folds > questions:
        raise ConfigError(
            f"--folds {settings.folds} of {counted(questions, 'question')}",
            expected="no more folds than questions",
        )


def _check_files(faults: Gathered, solution: Solution, specs: Sequence[RankerSpec], paths: RunPaths) -> None:
    """Check what can be checked of the rankers by their files alone."""
    for number, spec in enumerate(specs):
        with faults.check():
            check_ranker(
                spec.settings.kind, spec.settings.options, f"rankers.{number}",
                trained_here=spec.learns,
            )  # fmt: skip
        spec.check_files(faults, paths)
    if any(takes_index(spec.settings.kind) for spec in specs):
        check_models(faults, solution, search=False, encodes=True)


def _files(settings: CrossValidationSettings, solution: Solution) -> tuple[Path, Path | None]:
    """Questions and contexts: those of the flags, else those of the solution."""
    questions = settings.questions or solution.questions
    if questions is None:
        raise ConfigError(
            "no questions to learn from", where=settings.solution, expected="questions, or --questions",
        )  # fmt: skip
    contexts = settings.contexts
    if contexts is None and questions == solution.questions:
        contexts = solution.contexts_file
    if contexts is None and (solution.index or solution.contexts_file):
        raise ConfigError(
            "the solution reads contexts, but these questions have none", where=settings.solution,
            cure=f"python -m inference contexts --questions {questions} --index INDEX --out C.parquet, "
            "then give --contexts-file C.parquet",
        )  # fmt: skip
    if contexts is not None:
        require_file(contexts)
    return questions, contexts
