"""A decoder's form whose snippets are in no row: they are keys and values before it (`models.knowledge`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from kaggle_rag.models.answering.base import AnswerForm, Batch
from kaggle_rag.models.answering.collators import DataCollatorForMultipleChoice
from kaggle_rag.models.answering.item import Feature, Item
from kaggle_rag.models.knowledge import Knowledge, Snippets
from kaggle_rag.models.writer import Writer

_OWN = ("knowledge_ids", "knowledge_mask", "knowledge_rows")


@dataclasses.dataclass
class PrefixedCollator(DataCollatorForMultipleChoice):
    """The batch of the form that is prefixed, and the snippets of its questions.

    Returns
    -------
    What ``inner`` returns; ``knowledge_ids``, ``knowledge_mask`` ``(s, t)`` int64, the distinct snippets in
    tokens of the encoder; and ``knowledge_rows`` ``(b, m)`` int64, those of each question, -1 where it has
    fewer.
    """

    inner: DataCollatorForMultipleChoice | None = None
    encoder_tokenizer: Any = None

    def __call__(self, features: Sequence[Feature]) -> Batch:
        return self.units([[feature] for feature in features])

    def units(self, units: Sequence[Sequence[Feature]]) -> Batch:
        assert self.inner is not None
        features = [feature for unit in units for feature in unit]
        batch = self.inner.units(units)
        numbers: dict[tuple[int, ...], int] = {}
        rows = [[numbers.setdefault(tuple(ids), len(numbers)) for ids in f["knowledge"]] for f in features]
        # A batch without any snippet still takes its gradients from all weights: they are 0.
        texts = [{"input_ids": [*ids]} for ids in numbers] or [{"input_ids": self._nothing()}]
        padded = self.encoder_tokenizer.pad(texts, padding=True, return_tensors="pt")
        most = max(1, *map(len, rows))
        table = torch.tensor([[*row, *[-1] * (most - len(row))] for row in rows])
        return {**batch, **dict(zip(_OWN, (padded["input_ids"], padded["attention_mask"], table)))}

    def split(self, questions: Sequence[Sequence[Feature]]) -> list[list[Feature]]:
        assert self.inner is not None
        return self.inner.split(questions)

    def sizes(self, units: Sequence[Sequence[Feature]]) -> list[tuple[int, int]]:
        assert self.inner is not None
        return self.inner.sizes(units)

    def _nothing(self) -> list[int]:
        return list(self.encoder_tokenizer("")["input_ids"]) or [0]


class Prefixed(AnswerForm):
    """A form whose rows are written without a context, behind what the encoder made of it."""

    def __init__(self, form: AnswerForm, knowledge: Knowledge) -> None:
        self.form, self.knowledge = form, knowledge
        self.auto, self.layout, self.loss = form.auto, form.layout, form.loss
        self.has_head = form.has_head

    def make_collator(self, tokenizer: Any, multiple: int | None, positions: bool) -> PrefixedCollator:
        inner = self.form.make_collator(tokenizer, multiple, positions)
        return PrefixedCollator(tokenizer, multiple, positions, inner, self.knowledge.tokenizer)

    def encode(self, writer: Writer, item: Item) -> Feature:
        """The rows without a context, and the distinct snippets of all options (``knowledge``)."""
        bare = item._replace(contexts=((),) * len(item.contexts))
        distinct = dict.fromkeys(str(s).strip() for place in item.places for s in item.contexts[place])
        texts = [text for text in distinct if text]
        most = self.knowledge.snippet_tokens
        ids = self.knowledge.tokenizer(texts, truncation=True, max_length=most)["input_ids"] if texts else []
        return {**self.form.encode(writer, bare), "knowledge": ids}

    def logits(self, model: Any, batch: Batch) -> torch.Tensor:
        with self.knowledge.reading(Snippets(*(batch[key] for key in _OWN))):
            return self.form.logits(model, self._rest(batch))

    def likelihoods(self, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """See `kaggle_rag.models.answering.marginal.TellsTokens`, for a form that does."""
        form: Any = self.form
        with self.knowledge.reading(Snippets(*(batch[key] for key in _OWN))):
            likely: tuple[torch.Tensor, torch.Tensor] = form.likelihoods(model, self._rest(batch))
        return likely

    @staticmethod
    def _rest(batch: Batch) -> Batch:
        return {key: value for key, value in batch.items() if key not in _OWN}
