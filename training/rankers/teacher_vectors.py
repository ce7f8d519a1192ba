"""A teacher's vectors of each training question's options: computed once before training, kept on disk."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kaggle_rag.models.answering.item import Item
from kaggle_rag.models.answering.option_vectors import option_vectors
from kaggle_rag.models.devices import in_float32, precision_of
from kaggle_rag.models.loading import load_ranker
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.console import duration, progress, say
from kaggle_rag.runtime.errors import CheckpointError, show_size
from kaggle_rag.runtime.files import require_space, whole_file
from kaggle_rag.runtime.limits import release
from kaggle_rag.runtime.processes import is_first, processes, rank, wait_for_all
from kaggle_rag.runtime.words import counted
from training.rankers.dataset import RankerDataset
from training.rankers.preparing import own_device
from training.rankers.settings import RankerRun
from training.rankers.teacher import require_teacher, teacher_folder

# Questions in one file, which is what a kill can lose.
_PART = 1_024
# Questions that a dry run asks, to tell how long all of them take.
_SAMPLE = 16
Vectors = npt.NDArray[np.float16]


@dataclasses.dataclass(frozen=True)
class TeacherVectors:
    """Unit vectors of options by question, in the columns of its options; only what is read is in RAM.

    Attributes
    ----------
    parts : ``(questions, k, d)`` each, all but the last of one length; zeros where there is no vector.
    rows : which of the questions in the parts these are.
    """

    parts: Sequence[Vectors]
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> npt.NDArray[np.float32]:
        """The vectors of a question's options, ``(k, d)``."""
        part, place = divmod(int(self.rows[row]), len(self.parts[0]))
        return np.asarray(self.parts[part][place], dtype=np.float32)

    def take(self, rows: Sequence[int]) -> TeacherVectors:
        return TeacherVectors(self.parts, self.rows[list(rows)])


def with_teacher(settings: RankerRun, training: RankerDataset, work: Path) -> RankerDataset:
    """The questions with the vectors of the settings' teacher, if there is one.

    They lie in the work folder in parts: a killed run goes on with the first part that is missing. Several
    processes take turns.

    Raises
    ------
    KitError : the teacher cannot be loaded, or its vectors are not of this ranker's kind and width.
    """
    if not settings.teacher_ranker:
        return training
    require_teacher(settings)
    parts = [range(start, min(start + _PART, len(training))) for start in range(0, len(training), _PART)]
    paths = [work / "teacher" / f"{rows.start:08}.npy" for rows in parts]
    # Until the first process has claimed the folder, files of another one would be strange to it.
    wait_for_all()
    if missing := [n for n in range(rank(), len(paths), processes()) if not paths[n].is_file()]:
        teacher = _Teacher(settings)
        count = sum(len(parts[number]) for number in missing)
        with progress(count, "teacher", "question", disable=not is_first()) as bar:
            for number in missing:
                vectors = teacher.vectors(training.take(parts[number]))
                if number == missing[0]:
                    require_space(work, vectors.nbytes * len(missing) * processes())
                with whole_file(paths[number]) as aside, aside.open("wb") as file:
                    np.save(file, vectors, allow_pickle=False)
                bar.update(len(vectors))
        del teacher
        release()
    wait_for_all()
    stored = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
    return training.supervised(vectors=TeacherVectors(stored, np.arange(len(training))))


def forecast_teacher(settings: RankerRun, training: RankerDataset) -> RankerDataset:
    """For a dry run: say how long the teacher takes; the questions get vectors of its shape, all zeros."""
    if not settings.teacher_ranker:
        return training
    require_teacher(settings)
    teacher = _Teacher(settings)
    count = min(_SAMPLE, len(training))
    start = time.perf_counter()
    sample = teacher.vectors(training.take(np.linspace(0, len(training) - 1, count).astype(int)))
    seconds = (time.perf_counter() - start) * len(training) / count
    size = show_size(sample[0].nbytes * len(training))
    say(f"the teacher's vectors take about {duration(seconds)} once before training, and {size} of disk")
    nothing = np.broadcast_to(np.zeros_like(sample[:1]), (len(training), *sample.shape[1:]))
    return training.supervised(vectors=TeacherVectors([nothing], np.arange(len(training))))


class _Teacher:
    """The trained ranker, loaded as it would be to answer."""

    def __init__(self, settings: RankerRun) -> None:
        device = own_device(settings.device)
        self.folder = teacher_folder(str(settings.teacher_ranker))
        self.precision = precision_of(settings.precision, device)
        self.card, self.backbone = load_ranker(self.folder, device=device, precision=self.precision)
        self.backbone.model.eval()

    def vectors(self, dataset: RankerDataset) -> Vectors:
        """``(n, k, d)``; options are in their own order, and contexts as long as the teacher reads them."""
        items = dataset.items(self.card.snippets, self.backbone.form)
        found = self._asked(items, dataset.questions.width)
        again = _overflowed(found)
        if len(again) and self.precision != "fp32" and not self.card.nf4:
            with in_float32(self.backbone.model):
                found[again] = self._asked([items[row] for row in again], dataset.questions.width)
        if lost := len(_overflowed(found)):
            raise CheckpointError(
                f"its vectors of {lost:,} of {counted(len(items), 'question')} are not numbers",
                where=self.folder,
                cure="some of its weights are not numbers: copy the folder again, or retrain it",
            )  # fmt: skip
        return found.astype(np.float16)

    def _asked(self, items: Sequence[Item], wide: int) -> npt.NDArray[np.float32]:
        writer = Writer(self.backbone.tokenizer, self.card.layout, self.card.max_tokens)
        return option_vectors(self.backbone, writer, items, wide)


def _overflowed(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The questions of which some vector is not of numbers."""
    return np.flatnonzero(np.isnan(vectors).any(axis=(1, 2)))
