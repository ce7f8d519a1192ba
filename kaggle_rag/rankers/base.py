"""The interface of rankers: questions and contexts in, probabilities out, memory freed afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.contexts import QuestionContexts
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.runtime.limits import Need
from kaggle_rag.runtime.words import counted


@dataclasses.dataclass(frozen=True)
class Note:
    """Something to know about answers, which may be about ``count`` of them.

    ``one``, ``many`` : what is counted, before ``text``, as `kaggle_rag.runtime.words.counted` takes it.
    """

    text: str
    count: int = 0
    one: str = ""
    many: str = ""

    def __str__(self) -> str:
        return f"{counted(self.count, self.one, self.many)} {self.text}" if self.one else self.text


def summed(notes: Iterable[Note]) -> list[Note]:
    """The notes on several batches as those on all of them: each once, with the sum of its counts."""
    counts: dict[Note, int] = {}
    for note in notes:
        about = dataclasses.replace(note, count=0)
        counts[about] = counts.get(about, 0) + note.count
    return [dataclasses.replace(about, count=count) for about, count in counts.items()]


@runtime_checkable
class Ranker(Protocol):
    """A ranker holds a model from ``__enter__`` to ``__exit__``, and nothing otherwise."""

    notes: Sequence[Note]
    """What the user should know about the answers of the last call; usually nothing."""

    def __enter__(self) -> Ranker: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def probabilities(
        self, questions: Questions, contexts: Sequence[QuestionContexts | None] | None
    ) -> Probabilities:
        """Probability of each option being right, ``(n, k)`` float32.

        Rows sum to 1, absent options have 0. Without contexts, or the context of a question (``None``), the
        ranker answers from the question's text alone.
        """
        ...


_Self = TypeVar("_Self")


class HoldsNothing:
    """A ranker without a model of its own: there is nothing to open, and nothing to free."""

    notes: Sequence[Note] = ()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *fault: object) -> None: ...


@dataclasses.dataclass(frozen=True)
class Workspace:
    """What a run gives its rankers besides their settings.

    Attributes
    ----------
    folder : for files from which a killed run goes on (default: none are kept).
    ram, gpu, disk : bytes that the process may take (default: what is free).
    """

    folder: Path | None = None
    ram: int | None = None
    gpu: int | None = None
    disk: int | None = None


class Answered(NamedTuple):
    """``table`` ``(n, k)`` float32, NaN in rows without an answer; ``asked`` ``(n,)``: which it got to."""

    table: Probabilities
    asked: npt.NDArray[np.bool_]


@runtime_checkable
class AnswersWithin(Protocol):
    """A ranker for which a few questions cost about as much as many, such as one that streams its weights."""

    @property
    def reads_once(self) -> bool:
        """Whether it is such a ranker, and best asked once, by `within`."""
        ...

    def within(
        self,
        questions: Questions,
        contexts: Sequence[QuestionContexts | None] | None,
        left: Callable[[], float],
    ) -> Answered:
        """As `Ranker.probabilities`, for as many questions, from the first, as ``left()`` seconds allow.

        The others are not asked: all of them where the time is too short for any.
        """
        ...

    def forecast(self, questions: int) -> float:
        """Seconds for so many questions like those that were asked last."""
        ...


@runtime_checkable
class LearnsAtOnce(Protocol):
    """A kind of ranker that learns in seconds, from questions alone: its options are what it learnt."""

    def fitted(self, questions: Questions) -> dict[str, Any]:
        """The options of one that has learnt from these questions."""
        ...


@runtime_checkable
class TellsNeed(Protocol):
    """A ranker that knows how much memory its model needs before opening it."""

    def need(self) -> Need:
        """Bytes at the peak of answering; nothing is loaded to find out."""
        ...
