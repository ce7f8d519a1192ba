"""A ranker's answers in batches, each asked as a whole, so that every run asks the same ones together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inference.batches import Asked, Batches
from inference.predictions import KEY, PredictionStore, plain_json
from kaggle_rag.data.context_files import ContextStream, Rows
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.runtime.work_folder import WorkFolder


class _AnswersFolder(WorkFolder):
    nested = frozenset({"made by"})


class PredictionBatches(Batches):
    """The hidden folder of a ranker in a `PredictionStore`: one small predictions file per batch.

    Parameters
    ----------
    name, made_by : of the ranker.
    contexts : the file of the contexts that it reads, in whose order it is asked; ``None``: it reads none.
    size : questions per batch.
    """

    def __init__(
        self, store: PredictionStore, name: str, made_by: Mapping[str, Any], contexts: Path | None, size: int
    ) -> None:
        self.questions, self.name = store.questions, name
        self._contexts = ContextStream(contexts, store.questions, size) if contexts else None
        work = _AnswersFolder(
            store.batches(name), {"made by": plain_json(made_by), "batch": size}, "ranker's run",
            file=KEY, cure="choose another --out, or remove that folder to start over",
        )  # fmt: skip
        super().__init__(work, len(store.questions), size)

    def asked(self, missing: Collection[int]) -> Iterator[Asked]:
        """The missing batches, in order; the contexts of the next ones are still on disk."""
        if self._contexts is None:
            for start in missing:
                yield Asked(start, self.questions.take(self._order(start)), None)
            return
        for span in self._contexts.spans(skip={*self.starts} - {*missing}):
            yield Asked(span.start, self.questions.take(span.rows), span.contexts)

    def table(self) -> Probabilities:
        """All answers, ``(n, k)``, when no batch is missing."""
        table = np.full(self.questions.present.shape, np.nan, np.float32)
        for start in self.starts:
            table[self._order(start)] = Predictions.read(self.path(start)).tables[self.name]
        return table

    def _order(self, start: int) -> Rows:
        """The rows of a batch's questions, as they are asked."""
        if self._contexts is None:
            return np.asarray(self.rows(start), dtype=np.int64)
        return self._contexts.order[start : start + self.size]


def write_answers(path: Path, name: str, questions: Questions, table: Probabilities) -> None:
    """Write the answers to a batch."""
    folds = np.full(len(questions), -1, np.int64)
    Predictions.of(questions, folds, {name: table}, {}).write(path)
