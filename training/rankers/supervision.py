"""What is learnt of a question beside its right answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.models.answering.item import Feature, Item
from training.rankers.harder import Made

if TYPE_CHECKING:
    from training.rankers.teacher_vectors import TeacherVectors


@dataclasses.dataclass(frozen=True)
class Supervision:
    """How much each of ``n`` questions counts, and what a teacher says of it; ``None``: nothing of the kind.

    Attributes
    ----------
    weights : ``(n,)``, of each question in the loss; ``None``: all count alike.
    soft : a teacher's probabilities ``(n, k)``, see `training.rankers.distillation`.
    vectors : a teacher's vectors of the options, see `training.rankers.teacher_vectors`.
    """

    weights: npt.NDArray[np.float64] | None = None
    soft: Probabilities | None = None
    vectors: TeacherVectors | None = None

    def take(self, rows: Sequence[int]) -> Supervision:
        """Those of these questions, in this order."""
        chosen = [int(row) for row in rows]
        return Supervision(
            self.weights[chosen] if self.weights is not None else None,
            self.soft[chosen] if self.soft is not None else None,
            self.vectors.take(chosen) if self.vectors is not None else None,
        )

    def features(self, row: int, item: Item, made: Made) -> Feature:
        """What the loss reads of question ``row``, in the order of the options that the epoch made of it."""
        found: Feature = {}
        if self.weights is not None:
            found["weight"] = float(self.weights[row])
        if self.soft is not None:
            # Of an option that is gone the teacher's probability says nothing: zeros are no answer.
            found["soft"] = (self.soft[row, made.order] * made.same).tolist()
        if self.vectors is not None:
            # An option that was borrowed or replaced has none; its neighbours keep theirs.
            before = [item.options[column] for column in made.order]
            own = np.array([option == other for option, other in zip(made.item.options, before)])
            found["teacher_vectors"] = np.where(own[:, None], self.vectors[row][made.order], np.float32(0))
        return found


ANSWERS_ALONE = Supervision()
