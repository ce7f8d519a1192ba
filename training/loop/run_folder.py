"""The folder of a run: created, resumed, published in one rename; another run's work is never touched.

Work happens in ``OUT.training``, which holds the plan, the dataset and the checkpoints. After training,
the model is written there and becomes ``OUT`` in one rename.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kaggle_rag.evaluation import learnt
from kaggle_rag.evaluation.learnt import Learnt
from kaggle_rag.models.checkpoints import resolve, weights_sum
from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.files import require_space, write_json
from kaggle_rag.runtime.processes import is_first, processes, wait_for_all
from kaggle_rag.runtime.work_folder import WorkFolder, differing, read_json
from training.loop.settings import TrainingSettings

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


# Two checkpoints, and a third while it is being written.
_CHECKPOINTS = 3


class Run:
    """One training run of a program, and its two folders.

    Raises
    ------
    KitError : files that are missing, or a model that is not on this machine.
    """

    def __init__(self, program: str, settings: TrainingSettings) -> None:
        settings.check_inputs()
        self.out: Path = settings.out.absolute()
        self.work = self.out.with_name(self.out.name + ".training")
        self.checkpoint = resolve(settings.model)
        self.parents = [_learnt_of(folder) for folder in (self.checkpoint.path, *settings.teachers())]
        self.plan = {"program": program, **settings.plan(), "model": self.checkpoint.sha256}
        if processes() > 1:
            # Each reads its own batch: a checkpoint of two processes falls inside another step of one.
            self.plan["processes"] = processes()
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
                f"OUT already holds a trained model, which differs in {changed}",
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

    def finish(
        self, save: Callable[[Path], object], result: dict[str, Any], marks: Iterable[str]
    ) -> dict[str, Any]:
        """Write the model, seal it with its record, publish it as OUT, and return the record.

        Parameters
        ----------
        save : called in every process, because the weights may be sharded across them.
        marks : of the questions that it was trained on, or that its checkpoint was chosen by.
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
        learnt.write(model, learnt.union(self.parents, marks))
        result["sha256"] = weights_sum(model)
        write_json(model / RECORD, record)
        self.folder.publish(model, self.out)
        return record


def _learnt_of(folder: Path) -> Learnt:
    """What a parent was trained on: a backbone of the hub knows no questions, an earlier version's may."""
    return learnt.read(folder) or Learnt(frozenset(), complete=not (folder / RECORD).is_file())


def _is_complete(checkpoint: Path) -> bool:
    """The first process writes the trainer's state last; the others write their RNG states at any time."""
    rng_states = ["rng_state.pth"] if processes() == 1 else [f"rng_state_{n}.pth" for n in range(processes())]
    return read_json(checkpoint / "trainer_state.json") is not None and all(
        (checkpoint / name).is_file() for name in rng_states
    )
