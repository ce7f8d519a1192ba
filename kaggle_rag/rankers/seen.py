"""Which of the questions that a solution is asked its models were trained on."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from kaggle_rag.config import RankerSettings, Solution
from kaggle_rag.data.questions import Questions, id_text
from kaggle_rag.evaluation import learnt
from kaggle_rag.evaluation.learnt import Learnt
from kaggle_rag.index.manifest import Manifest
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.rankers.registry import takes_index
from kaggle_rag.runtime.errors import CheckpointError
from kaggle_rag.runtime.words import counted


@dataclasses.dataclass(frozen=True)
class Seen:
    """How many of the questions each model was trained on, and which of them any of them was.

    Attributes
    ----------
    models : by name as the settings give it, those that were trained on at least one.
    ids : of those questions, as text.
    questions : how many there are.
    """

    models: dict[str, int]
    ids: tuple[str, ...]
    questions: int

    def as_json(self) -> dict[str, Any]:
        return {"models": self.models, "ids": list(self.ids)}

    def notes(self) -> list[str]:
        """One line per model."""
        return [
            f"{name} was trained on {count:,} of these {counted(self.questions, 'question')}: its score "
            "is too high"
            for name, count in self.models.items()
        ]


def seen_by(names: Iterable[str], questions: Questions) -> Seen:
    """What models, by name or folder, have seen of these questions.

    A model that is not on this machine is left out: what needs it says so.

    Raises
    ------
    ArtifactError : a model's list of questions is damaged.
    """
    asked = np.array(learnt.marks(questions))
    models, seen = dict[str, int](), np.zeros(len(questions), dtype=bool)
    for name in dict.fromkeys(names):
        if (known := _learnt(name)) and (found := np.isin(asked, [*known.marks])).any():
            models[name] = int(found.sum())
            seen |= found
    ids = tuple(id_text(questions.ids[row]) for row in np.flatnonzero(seen))
    return Seen(models, ids, len(questions))


def says_all(name: str) -> bool:
    """Whether a model says which questions it was trained on, and all of them."""
    known = _learnt(name)
    return known is not None and known.complete


def models_of(solution: Solution, rankers: Sequence[RankerSettings], *, search: bool) -> Iterator[str]:
    """The models that answer: those of the rankers, and the encoders and the re-ranker if they are used."""
    yield from (str(each.options["folder"]) for each in rankers if "folder" in each.options)
    if not search and not any(takes_index(each.kind) for each in rankers):
        return
    manifest = Manifest.read(solution.index) if solution.index else None
    yield str(solution.encoder or (manifest.encoder.name if manifest else DEFAULT_ENCODER))
    if search and manifest:
        for name in solution.contexts.retrievers:
            if name in manifest.dense and name != manifest.default:
                yield str(solution.encoders.get(name, manifest.dense[name].encoder.name))
        if solution.contexts.reranker:
            yield str(solution.contexts.reranker)


def _learnt(name: str) -> Learnt | None:
    from kaggle_rag.rankers.folders import located

    with contextlib.suppress(CheckpointError):
        return learnt.read(located(name))
    return None
