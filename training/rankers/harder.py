"""What an epoch changes in a question, so that a ranker does not rely on finding all it needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kaggle_rag.data.contexts import Snippet
from kaggle_rag.models.answering.item import Item

_NONE = "none of the above"


@dataclasses.dataclass(frozen=True)
class Changes:
    """How often a question changes; all of it is drawn from seed, epoch and row.

    Attributes
    ----------
    seed, shuffle : options come in a new order in each epoch.
    drop_snippets : share of the snippets that are left out.
    weaker, drop_best, no_context, none_of_above, borrowed : share of the questions that read their weaker
        contexts, lose the best snippet of each context, lose all of them, get the option "None of the above",
        or a wrong option of another question about the same article.
    rising : epochs in which these shares rise from 0 to what they are; 0: they are so from the start.
    """

    seed: int
    shuffle: bool = False
    drop_snippets: float = 0.0
    weaker: float = 0.0
    drop_best: float = 0.0
    no_context: float = 0.0
    none_of_above: float = 0.0
    borrowed: float = 0.0
    rising: int = 0

    def part(self, epoch: int) -> float:
        """What part of the shares an epoch has, from 0 to 1; the first is number 0."""
        return min(1.0, epoch / (self.rising - 1)) if self.rising > 1 else 1.0

    def made(self, item: Item, weaker: Item | None, lent: Lent, row: int, epoch: int) -> Made:
        """The question of a row as an epoch sees it.

        Parameters
        ----------
        weaker : the same question with its weaker contexts, if there are any.
        lent : options that it may borrow.
        """
        rng, part = np.random.default_rng([self.seed, epoch, row]), self.part(epoch)
        weakened = weaker is not None and rng.random() < self.weaker * part
        own = item = weaker if weaker is not None and weakened else item
        # First: what was borrowed loses its snippets as the others do, and nothing right is gone yet.
        if self.borrowed and rng.random() < self.borrowed * part:
            item = with_borrowed_option(item, lent.options(row, weakened=weakened), rng)
        if self.drop_snippets:
            item = with_fewer_snippets(item, self.drop_snippets * part, rng)
        read = item.contexts
        if self.none_of_above and rng.random() < self.none_of_above * part:
            item = with_none_of_above(item, rng)
        if self.drop_best and rng.random() < self.drop_best * part:
            item = item._replace(contexts=tuple(context[1:] for context in item.contexts))
        if self.no_context and rng.random() < self.no_context * part:
            item = item._replace(contexts=((),) * len(item.contexts))
        order = [*range(len(item.options))]
        if self.shuffle:
            # Empty columns stay where they are: no letter is skipped, as none is when questions are answered.
            for place, column in zip(item.places, rng.permutation(item.places)):
                order[place] = int(column)
        same = item.options == own.options
        return Made(item.in_order(order), order, same, same and not weakened and item.contexts == read)


class Made(NamedTuple):
    """A changed question.

    Attributes
    ----------
    order : which columns its options were in.
    same : none of them is another.
    whole : nor has it another context or lost what it needs; single snippets may be gone, as with dropout.
    """

    item: Item
    order: list[int]
    same: bool
    whole: bool


class Borrowed(NamedTuple):
    """An option of another question, with the context that was found for it."""

    option: str
    context: tuple[Snippet, ...]


class Lent:
    """What questions may borrow: the options, right and wrong, of the others about the same article.

    Parameters
    ----------
    items, weaker : the questions, with their contexts and with weaker ones (``None``: there are none).
    articles : what each is about, as `kaggle_rag.evaluation.fold_table.articles_of` tells it; empty: nothing
        is lent.
    """

    def __init__(
        self, items: Sequence[Item], weaker: Sequence[Item] | None, articles: Sequence[str | None]
    ) -> None:
        self.items, self.weaker, self.articles = items, weaker, articles
        self.about: dict[str, list[int]] = {}
        for row, article in enumerate(articles):
            if article is not None:
                self.about.setdefault(article, []).append(row)

    def options(self, row: int, *, weakened: bool = False) -> list[Borrowed]:
        """What the question of a row may borrow, with contexts as good as its own."""
        items = self.weaker if weakened and self.weaker is not None else self.items
        article = self.articles[row] if self.articles else None
        others = self.about.get(article, []) if article is not None else []
        return [
            Borrowed(option, context)
            for other in others if other != row
            for option, context in zip(items[other].options, items[other].contexts) if option is not None
        ]  # fmt: skip

    def borrowers(self) -> int:
        """How many questions have another one about their article."""
        return sum(len(rows) for rows in self.about.values() if len(rows) > 1)


def with_none_of_above(item: Item, rng: np.random.Generator) -> Item:
    """The question with an option that is "None of the above": the right one in half of the cases.

    In the other half it replaces a wrong one, so that its words alone tell nothing. A question that has such
    an option, or only two options, stays as it is.
    """
    wrong = _wrong(item)
    if len(wrong) < 2 or any(_NONE in (option or "").lower() for option in item.options):
        return item
    place = item.answer if rng.random() < 0.5 else wrong[int(rng.integers(len(wrong)))]
    # What was found for the option that is gone would tell what it was.
    other = wrong[0] if wrong[0] != place else wrong[1]
    return _with(item, place, _NONE.capitalize(), item.contexts[other])


def with_borrowed_option(item: Item, others: Sequence[Borrowed], rng: np.random.Generator) -> Item:
    """The question with an option of another one about its article, in the place of a wrong one."""
    wrong, own = _wrong(item), {(option or "").strip().lower() for option in item.options}
    strange = [other for other in others if other.option.strip().lower() not in own]
    if not wrong or not strange:
        return item
    place, other = wrong[int(rng.integers(len(wrong)))], strange[int(rng.integers(len(strange)))]
    shared = all(context == item.contexts[item.answer] for context in item.contexts)
    return _with(item, place, other.option, item.contexts[place] if shared else other.context)


def with_fewer_snippets(item: Item, share: float, rng: np.random.Generator) -> Item:
    """The question without a share of its snippets, the same ones for all options."""
    keep: dict[str, bool] = {}
    return item._replace(
        contexts=tuple(
            tuple(snippet for snippet in context if keep.setdefault(str(snippet), rng.random() >= share))
            for context in item.contexts
        )
    )


def _wrong(item: Item) -> list[int]:
    return [place for place in item.places if place != item.answer]


def _with(item: Item, place: int, option: str, context: tuple[Snippet, ...]) -> Item:
    """The question with another option in a place."""
    options, contexts = list(item.options), list(item.contexts)
    options[place], contexts[place] = option, context
    return item._replace(options=tuple(options), contexts=tuple(contexts))
