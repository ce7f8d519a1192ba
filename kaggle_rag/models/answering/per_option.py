"""Forms with a head that scores a row per option: in one softmax, alone as right or wrong, or in pairs."""

from __future__ import annotations

from typing import Any

import torch

from kaggle_rag.models import layouts
from kaggle_rag.models.answering.base import AnswerForm, Batch, masked
from kaggle_rag.models.answering.item import Feature, Item
from kaggle_rag.models.answering.option_vectors import HEAD, scored_vectors
from kaggle_rag.models.writer import Writer
from kaggle_rag.text.normalise import same


class _RowAnOption(AnswerForm):
    has_head = True
    option_vector = HEAD

    def encode(self, writer: Writer, item: Item) -> Feature:
        rows = [writer(item.context(p), item.prompt, item.options, p).ids for p in item.places]
        return item.labelled({key: [row[key] for row in rows] for key in rows[0]})

    def with_vectors(self, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """See `kaggle_rag.models.answering.option_vectors.TellsVectors`."""
        with scored_vectors(model) as seen:
            logits = self.logits(model, batch)
        return logits, seen[0].float().view(*batch["present"].shape, -1)


class Choice(_RowAnOption):
    """A multiple-choice head: it takes ``(batch, options, tokens)`` as it is."""

    auto = "AutoModelForMultipleChoice"
    layout = layouts.PAIR

    def logits(self, model: Any, batch: Batch) -> torch.Tensor:
        return masked(model(**self.inputs(batch)).logits, batch)


class Binary(_RowAnOption):
    """A classification head over each row alone.

    With two labels, the second one's mean over the other options is added: "is it right, given what
    else is offered?" (the first-placed team's head had the mean of the other options as an input).
    """

    auto = "AutoModelForSequenceClassification"
    layout = layouts.PAIR
    loss = "binary"

    def logits(self, model: Any, batch: Batch) -> torch.Tensor:
        questions, options = batch["present"].shape
        return self.combined(model(**self.flat(batch)).logits.float().view(questions, options, -1), batch)

    def combined(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """One score per option of the head's labels ``(batch, options, labels)``."""
        own = logits[..., 0]
        if logits.shape[-1] == 1:
            return masked(own, batch)
        offered = logits[..., 1] * batch["present"]
        others = (batch["present"].sum(1, keepdim=True) - 1).clamp(min=1)
        return masked(own + (offered.sum(1, keepdim=True) - offered) / others, batch)


class BinaryPrompt(Binary):
    """The same over a row that asks in words, scored at its last token."""

    layout = layouts.BINARY
    # A decoder's head scores every token.
    option_vector = ""

    def encode(self, writer: Writer, item: Item) -> Feature:
        contexts = [item.context(place) for place in item.places]
        rows = [row.ids for row in writer.rows(contexts, item.prompt, item.options, item.places)]
        return item.labelled({key: [row[key] for row in rows] for key in rows[0]})


class Rewards(AnswerForm):
    """Over a form with a head: scores are rewards, and learnt from pairs of a right and a wrong option.

    A softmax over them is the chance that an option wins against all others (Luce 1959), as the
    Bradley-Terry model is that it wins against one. An option that says the same as the right one is no
    worse, so it is no pair.
    """

    loss = "pairwise"

    def encode(self, writer: Writer, item: Item) -> Feature:
        """The rows of the form, and which options the right one is better than (``rivals``)."""
        feature = super().encode(writer, item)  # type: ignore[safe-super]
        if item.answer < 0:
            return feature
        right = same(item.options[item.answer] or "")
        return {**feature, "rivals": [o is not None and same(o) != right for o in item.options]}


class Reward(Rewards, Binary):
    """A reward of each row alone."""


class RewardPrompt(Rewards, BinaryPrompt):
    """A reward of each row that asks in words."""
