"""The folder of a run: created, resumed, published in one rename; another run's work is never touched.

Work happens in ``OUT.training``, which holds the plan, the dataset and the checkpoints. After training,
the model is written there and becomes ``OUT`` in one rename.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kaggle_rag.index.manifest import MANIFEST, Manifest
from kaggle_rag.models.checkpoints import resolve, weights_sum
from kaggle_rag.runtime.errors import ArtifactError, InputError
from kaggle_rag.runtime.files import require_space, sha256, write_json
from kaggle_rag.runtime.processes import is_first, processes, wait_for_all
from kaggle_rag.runtime.work_folder import WorkFolder, differing, read_json

RECORD, PLAN, MODEL = "training.json", "plan.json", "model"


def require_room(folder: Path, model: Any, *, adapter: bool = False, ema: bool = False) -> None:
    """Raise ``LimitError`` if the disk has no room for this model's checkpoints and final weights.

    A checkpoint holds the weights (only an adapter's own), AdamW's two moments of the trained ones, and
    their moving average, in float32.
    """
    sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    trained = sum(size for size, learns in sizes if learns)
    saved = trained if adapter else sum(size for size, _ in sizes)
    if is_first():
        require_space(folder, 4 * (_CHECKPOINTS * (saved + (2 + ema) * trained) + saved))


# Where it runs and what it reports; these do not affect the weights.
_NOT_PLANNED = {"out", "device", "report_to", "encoder"}
# Files whose content decides the weights, whatever their names.
_FILES = ("questions", "passages", "validation")
# Two checkpoints, and a third while it is being written.
_CHECKPOINTS = 3


class Run:
    """One training run and its two folders."""

    def __init__(self, kind: str, settings: Any, files: Sequence[str] = _FILES) -> None:
        _require_inputs(settings, files)
        self.out: Path = settings.out.absolute()
        self.work = self.out.with_name(self.out.name + ".training")
        self.checkpoint = resolve(settings.model)
        self.plan = _plan(kind, settings, files, self.checkpoint.sha256)
        self.folder = WorkFolder(
            self.work, self.plan, "training run", file=PLAN,
            cure="rerun its command to resume it, choose another OUT, or delete that folder",
        )  # fmt: skip

    def finished(self) -> dict[str, Any] | None:
        """The record of this run if OUT holds it.

        Raises
        ------
        ArtifactError : OUT holds anything else.
        """
        if self.out.is_dir() and not any(self.out.iterdir()):
            return None
        if not self.out.exists():
            return None
        record = read_json(self.out / RECORD)
        if record is None or "plan" not in record:
            raise ArtifactError("OUT contains something else", where=self.out, cure="choose another OUT")
        if changed := differing(self.plan, record["plan"]):
            raise ArtifactError(
                f"OUT already holds a model trained with different settings: {changed}",
                where=self.out,
                cure="choose another OUT, or delete that folder first",
            )
        if is_first():
            shutil.rmtree(self.work, ignore_errors=True)
        return record

    def require_own(self) -> None:
        """Raise ``ArtifactError`` if OUT or the work folder holds anything but this run; write nothing."""
        self.finished()
        self.folder.require_ours()

    @contextmanager
    def begun(self) -> Iterator[Path]:
        """The work folder, locked; new or resumed.

        Raises
        ------
        ArtifactError : it holds another run, no run, or one that is still running.
        """
        if not is_first():
            yield self.work
            return
        with self.folder.claimed():
            if self.finished():
                raise ArtifactError(
                    "another process has just finished this run", where=self.out,
                    cure="rerun the same command to see its results",
                )  # fmt: skip
            yield self.work

    def last_checkpoint(self) -> Path | None:
        """The newest complete checkpoint; one whose writing was interrupted is deleted."""
        checkpoints: list[Path] = sorted(
            self.work.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])
        )
        while checkpoints:
            if _is_complete(checkpoints[-1]):
                return checkpoints[-1]
            incomplete = checkpoints.pop()
            if is_first():
                shutil.rmtree(incomplete)
        return None

    def finish(self, save: Callable[[Path], object], result: dict[str, Any]) -> dict[str, Any]:
        """Write the model, seal it with its record, publish it as OUT, and return the record.

        ``save`` is called in every process, because the weights may be sharded across them.
        """
        # The best weights are read from the work folder, which the first process removes below.
        wait_for_all()
        model = self.work / MODEL
        record = {"kind": "kaggle-rag training", "plan": self.plan, "result": result}
        if not is_first():
            save(model)
            return record
        shutil.rmtree(model, ignore_errors=True)
        save(model)
        result["sha256"] = weights_sum(model)
        write_json(model / RECORD, record)
        self.folder.publish(model, self.out)
        return record


def _is_complete(checkpoint: Path) -> bool:
    """The first process writes the trainer's state last; the others write their RNG states at any time."""
    rng_states = ["rng_state.pth"] if processes() == 1 else [f"rng_state_{n}.pth" for n in range(processes())]
    return read_json(checkpoint / "trainer_state.json") is not None and all(
        (checkpoint / name).is_file() for name in rng_states
    )


def _require_inputs(settings: Any, files: Sequence[str]) -> None:
    """Report missing inputs before a model is loaded in vain."""
    for path in (*(getattr(settings, key) for key in files), *settings.exclude):
        if path is not None and path.is_dir():
            raise InputError("this is a folder, not a file", where=path, expected="one file")
        if path is not None and not path.is_file():
            raise InputError("no such file", where=path, cure="check the spelling of the path")
    if index := getattr(settings, "index", None):
        Manifest.read(index)


def _plan(kind: str, settings: Any, files: Sequence[str], model: str) -> dict[str, Any]:
    """Everything that decides the weights, as plain JSON."""
    plan: dict[str, Any] = {
        key: value for key, value in settings.model_dump(mode="json").items() if key not in _NOT_PLANNED
    }
    if plan.get("limit") is None:
        # Plans written before this setting existed must compare equal.
        plan.pop("limit", None)
    plan |= {key: sha256(path) for key in files if (path := getattr(settings, key))}
    plan["exclude"] = [sha256(path) for path in settings.exclude]
    if processes() > 1:
        # Each reads its own batch: a checkpoint of two processes falls inside another step of one.
        plan["processes"] = processes()
    if index := getattr(settings, "index", None):
        plan["index"] = sha256(index / MANIFEST)
    return {"program": kind, **plan, "model": model}
