"""Answers in batches next to their file, so that a killed run takes up what it has answered."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaggle_rag.data.answers import Answer, AnswersFile, write_answers
from kaggle_rag.data.questions import Questions
from kaggle_rag.runtime.errors import ArtifactError, KitError
from kaggle_rag.runtime.files import fields_sha256, whole_file
from kaggle_rag.runtime.work_folder import WorkFolder


class AnswerBatches:
    """The folder ``.NAME.batches`` next to a file of answers: a file per batch, in the order they were made.

    A batch is stored with its rows, so that a run with other batches (after running out of memory, say) takes
    up all the same.

    Parameters
    ----------
    out : the file to write.
    questions : all of them.
    key : what determines the answers, as plain JSON.
    """

    def __init__(self, out: Path, questions: Questions, key: Mapping[str, Any]) -> None:
        self.out, self.questions, self.made_by = out, questions, fields_sha256(dict(key))[:16]
        self.work = WorkFolder(
            out.with_name(f".{out.name}.batches"), key, "generation", file="key.json",
            cure="rerun it with its settings, remove this folder, or choose another --out",
        )  # fmt: skip

    def is_done(self) -> bool:
        """Whether ``out`` holds exactly these answers.

        Raises
        ------
        ArtifactError : it holds something else, which is never overwritten.
        """
        if not self.out.exists():
            return False
        with contextlib.suppress(KitError):
            stored = AnswersFile.read(self.out)
            if stored.made_by == self.made_by:
                stored.of(self.questions, self.out)
                return True
        raise ArtifactError(
            "a file of other answers, or of something else, already exists", where=self.out,
            cure="choose another --out, or remove that file first",
        )  # fmt: skip

    def so_far(self) -> dict[int, Answer]:
        """The answers that are there, by the rows of their questions."""
        found: dict[int, Answer] = {}
        for path in sorted(self.work.folder.glob("[0-9]*.json")):
            stored = json.loads(path.read_text(encoding="utf-8"))
            found |= {int(row): Answer(*answer) for row, answer in stored.items()}
        return found

    def add(self, rows: Sequence[int], answers: Sequence[Answer]) -> None:
        """Store a batch; its name is its longest prompt's row, which no other batch has."""
        with whole_file(self.work.folder / f"{rows[0]:07d}.json") as aside:
            aside.write_text(json.dumps(dict(zip(rows, answers))), encoding="utf-8")

    def join(self) -> None:
        """Write all answers as the one file, then delete the folder."""
        found = self.so_far()
        write_answers(self.out, self.questions, [found[row] for row in range(len(found))], self.made_by)
        shutil.rmtree(self.work.folder)
