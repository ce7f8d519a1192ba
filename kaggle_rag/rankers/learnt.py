"""Which of the questions that a solution is asked its models have learnt from."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_rag.config import Solution
from kaggle_rag.data.questions import Questions, id_text
from kaggle_rag.evaluation import learnt
from kaggle_rag.index.manifest import Manifest
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, resolve
from kaggle_rag.runtime.errors import KitError


@dataclasses.dataclass(frozen=True)
class Learnt:
    """How many of the questions each model has learnt from, and which of them any of them has.

    Attributes
    ----------
    models : by name as the settings give it; models that have learnt from none are not in it.
    ids : of those questions, as text.
    """

    models: dict[str, int]
    ids: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {"models": self.models, "ids": list(self.ids)}

    def notes(self, questions: int) -> list[str]:
        """A line a model for the user."""
        return [
            f"{name} has learnt from {count:,} of these {questions:,} questions: their score flatters it"
            for name, count in self.models.items()
        ]


def learnt_by(solution: Solution, questions: Questions) -> Learnt:
    """Look at the encoder, the re-ranker, the rankers' folders, and the backbones that are still to train.

    A model that is not found is left out: what needs it says so.
    """
    return of_models(_models(solution), questions)


def of_models(names: Iterable[str], questions: Questions) -> Learnt:
    """The same for models by name or folder."""
    asked = np.array(learnt.marks(questions))
    models, seen = dict[str, int](), np.zeros(len(questions), dtype=bool)
    for name in dict.fromkeys(names):
        if (known := _known(name)) and (found := np.isin(asked, [*known])).any():
            models[name] = int(found.sum())
            seen |= found
    return Learnt(models, _ids(questions, seen))


def is_known(name: str) -> bool:
    """Whether a model says which questions it has learnt from."""
    with contextlib.suppress(KitError):
        return (resolve(name).path / learnt.FILE).is_file()
    return False


def _ids(questions: Questions, seen: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(id_text(questions.ids[row]) for row in np.flatnonzero(seen))


def _known(name: str) -> frozenset[str]:
    with contextlib.suppress(KitError):
        return learnt.read(resolve(name).path)
    return frozenset()


def _models(solution: Solution) -> list[str]:
    contexts = solution.contexts
    others = [*solution.encoders.values(), *([contexts.reranker] if contexts.reranker else [])]
    rankers = [each.options.get("folder") or (each.train or {}).get("model") for each in solution.rankers]
    return [_encoder(solution), *(str(each) for each in (*others, *rankers) if each)]


def _encoder(solution: Solution) -> str:
    if solution.encoder or not solution.index:
        return str(solution.encoder or DEFAULT_ENCODER)
    try:
        return Manifest.read(solution.index).encoder.name
    except KitError:
        return DEFAULT_ENCODER
