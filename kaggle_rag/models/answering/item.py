"""Questions as models see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kaggle_rag.data.contexts import QuestionContexts, Snippet, joined
from kaggle_rag.data.questions import Question

# The rows of one question, as a form encodes them.
Feature = dict[str, Any]


class Item(NamedTuple):
    """A question as a model sees it: ``contexts`` one per option; ``answer`` a column, -1 if unknown."""

    prompt: str
    options: tuple[str | None, ...]
    contexts: tuple[tuple[Snippet, ...], ...]
    answer: int

    @classmethod
    def of(
        cls, question: Question, contexts: QuestionContexts | None, snippets: int, *, passages: bool = False
    ) -> Item:
        """A question, each option with the first ``snippets`` of its context (0: all).

        With ``passages`` these are the retrieved passages, without their neighbours and titles: a text
        embedded alone compares best if it says one thing.
        """
        read = tuple(_snippets(contexts, p, snippets, passages) for p in range(len(question.options)))
        return cls(question.prompt, question.options, read, question.answer)

    @property
    def present(self) -> list[bool]:
        return [option is not None for option in self.options]

    @property
    def places(self) -> list[int]:
        """Columns of the present options."""
        return [place for place, option in enumerate(self.options) if option is not None]

    def in_order(self, order: Sequence[int]) -> Item:
        """The same question with its options in another order; contexts and answer move with them."""
        return Item(
            self.prompt,
            tuple(self.options[column] for column in order),
            tuple(self.contexts[column] for column in order),
            list(order).index(self.answer) if self.answer >= 0 else self.answer,
        )

    def turned(self, turn: int) -> list[int]:
        """Which option each column shows when the present ones move up by ``turn``; absent ones stay."""
        order, places = [*range(len(self.options))], self.places
        for number, place in enumerate(places):
            order[place] = places[(number + turn) % len(places)]
        return order

    def context(self, place: int) -> str:
        """The text of an option's context."""
        return joined(self.contexts[place])

    def shared_context(self) -> str:
        """The one context of a question; if every option has its own, their distinct snippets in turn."""
        if len(set(self.contexts)) == 1:
            return self.context(0)
        split = [self.contexts[place] for place in self.places]
        turns = [snippets[n] for n in range(max(map(len, split))) for snippets in split if n < len(snippets)]
        return "\n".join(dict.fromkeys(map(str, turns)))

    def labelled(self, feature: Feature) -> Feature:
        """``feature`` with what every form needs besides its rows."""
        known = {"labels": self.answer} if self.answer >= 0 else {}
        return {**feature, "present": self.present, **known}


def _snippets(
    contexts: QuestionContexts | None, place: int, most: int, passages: bool
) -> tuple[Snippet, ...]:
    context = contexts.of(place) if contexts else None
    if context is None:
        return ()
    separate = [Snippet("", " ".join(e.text.split()), e.score, (e.row,)) for e in context.evidence]
    snippets = separate if passages and separate else context.snippets
    return tuple(snippets[: most or None])
