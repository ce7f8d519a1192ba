"""The interface of rankers: questions and contexts in, probabilities out, memory freed afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, runtime_checkable

from kaggle_rag.data.contexts import QuestionContexts
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.runtime.limits import Need


@runtime_checkable
class Ranker(Protocol):
    """A ranker holds a model from ``__enter__`` to ``__exit__``, and nothing otherwise."""

    notes: Sequence[str]
    """What the user should know about the last answers; usually nothing."""

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


@runtime_checkable
class TellsNeed(Protocol):
    """A ranker that knows how much memory its model needs before opening it."""

    def need(self) -> Need:
        """Bytes at the peak of answering; nothing is loaded to find out."""
        ...
