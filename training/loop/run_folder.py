"""The folder of a run: begun, resumed, finished in one rename; a stranger's work is never touched.

The work happens in ``OUT.training``, which holds the plan, the dataset and the checkpoints. When all
is learnt the model is written there, and becomes ``OUT`` in one rename.
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
    """Raise ``LimitError`` where the checkpoints of this model and its finished weights have no room.

    A checkpoint holds the weights (of an adapter its own alone), AdamW's two moments of those that are
    trained, and their moving average, in float32.
    """
    sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    trained = sum(size for size, learns in sizes if learns)
    saved = trained if adapter else sum(size for size, _ in sizes)
    if is_first():
        require_space(folder, 4 * (_CHECKPOINTS * (saved + (2 + ema) * trained) + saved))


# Where it runs and what is shown of it; not what is learnt.
_ASIDE = {"out", "device", "report_to", "encoder"}
# Files whose content decides what is learnt, whatever they are called.
_FILES = ("questions", "passages", "validation")
# Two checkpoints, and a third while it is written.
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
            cure="rerun its own command to resume it, choose another OUT, or remove that folder",
        )  # fmt: skip

    def finished(self) -> dict[str, Any] | None:
        """The record of this very run when OUT holds it.

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
            raise ArtifactError("OUT holds something else", where=self.out, cure="choose another OUT")
        if other := differing(self.plan, record["plan"]):
            raise ArtifactError(
                f"a model trained with another {other} is there already",
                where=self.out,
                cure="choose another OUT, or remove that folder first",
            )
        if is_first():
            shutil.rmtree(self.work, ignore_errors=True)
        return record

    def require_own(self) -> None:
        """Raise ``ArtifactError`` where OUT or the work folder hold anything but this run; write nothing."""
        self.finished()
        self.folder.require_ours()

    @contextmanager
    def begun(self) -> Iterator[Path]:
        """The work folder, locked, new or taken up again.

        Raises
        ------
        ArtifactError : it holds another run, no run, or one that is going on.
        """
        if not is_first():
            yield self.work
            return
        with self.folder.claimed():
            if self.finished():
                raise ArtifactError(
                    "another process has just finished this run", where=self.out,
                    cure="rerun the same command: it then tells what was learnt",
                )  # fmt: skip
            yield self.work

    def last_checkpoint(self) -> Path | None:
        """The newest whole checkpoint; one that was cut while it was written is removed."""
        found: list[Path] = sorted(
            self.work.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])
        )
        while found:
            if _is_whole(found[-1]):
                return found[-1]
            cut = found.pop()
            if is_first():
                shutil.rmtree(cut)
        return None

    def finish(self, save: Callable[[Path], object], result: dict[str, Any]) -> dict[str, Any]:
        """Write the model, seal it by its record, and give it its name; the record comes back.

        ``save`` is called in every process, because none may hold all of the weights.
        """
        # The best weights are read from the work folder, which the first process removes below.
        wait_for_all()
        made = self.work / MODEL
        record = {"kind": "kaggle-rag training", "plan": self.plan, "result": result}
        if not is_first():
            save(made)
            return record
        shutil.rmtree(made, ignore_errors=True)
        save(made)
        result["sha256"] = weights_sum(made)
        write_json(made / RECORD, record)
        self.folder.publish(made, self.out)
        return record


def _is_whole(checkpoint: Path) -> bool:
    """The first process writes its state last; the others write their generators' states when they come."""
    drawn = ["rng_state.pth"] if processes() == 1 else [f"rng_state_{n}.pth" for n in range(processes())]
    return read_json(checkpoint / "trainer_state.json") is not None and all(
        (checkpoint / name).is_file() for name in drawn
    )


def _require_inputs(settings: Any, files: Sequence[str]) -> None:
    """Say what is missing before a model is loaded for nothing."""
    for path in (*(getattr(settings, key) for key in files), *settings.exclude):
        if path is not None and path.is_dir():
            raise InputError("this is a folder", where=path, expected="one file")
        if path is not None and not path.is_file():
            raise InputError("no such file", where=path, cure="check the spelling of the path")
    if index := getattr(settings, "index", None):
        Manifest.read(index)


def _plan(kind: str, settings: Any, files: Sequence[str], model: str) -> dict[str, Any]:
    """Everything that decides the weights, as plain JSON."""
    plan: dict[str, Any] = {
        key: value for key, value in settings.model_dump(mode="json").items() if key not in _ASIDE
    }
    if plan.get("limit") is None:
        # Plans from before there was one are the same plans.
        plan.pop("limit", None)
    plan |= {key: sha256(path) for key in files if (path := getattr(settings, key))}
    plan["exclude"] = [sha256(path) for path in settings.exclude]
    if processes() > 1:
        # They see a batch each: a checkpoint of two is in the middle of another step for one.
        plan["processes"] = processes()
    if index := getattr(settings, "index", None):
        plan["index"] = sha256(index / MANIFEST)
    return {"program": kind, **plan, "model": model}
