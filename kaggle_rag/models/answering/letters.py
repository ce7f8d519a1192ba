"""All options are read at once, and the answer is one letter: the cheapest form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from kaggle_rag.models import layouts
from kaggle_rag.models.answering.base import AnswerForm, Batch, answer_ids, masked, start_token
from kaggle_rag.models.answering.collators import DataCollatorForMultipleChoice, spread
from kaggle_rag.models.answering.item import Feature, Item
from kaggle_rag.models.packing import shared_start
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import ConfigError


class LetterCollator(DataCollatorForMultipleChoice):
    """One row per question, ``(b, 1, t)``, and each option's token, ``choices`` ``(b, k)`` int64."""

    def laid_out(self, feature: Feature, rows: Sequence[Any], wide: int) -> Sequence[Any]:
        return rows

    def own_tensors(self, features: Sequence[Feature], wide: int, batch: Batch) -> Batch:
        choices = [spread(feature, feature["choices"], wide, 0) for feature in features]
        return {"choices": torch.tensor(choices)}


class Letters(AnswerForm):
    """The next token's logits of the options' letters."""

    auto = "AutoModelForCausalLM"
    layout = layouts.LETTER
    collator: ClassVar[type[DataCollatorForMultipleChoice]] = LetterCollator
    own_keys = ("choices",)

    def encode(self, writer: Writer, item: Item) -> Feature:
        """One row up to where the letters diverge, and the token with which each continues (``choices``)."""
        context = item.shared_context()
        rows = [writer(context, item.prompt, item.options, p).ids["input_ids"] for p in item.places]
        shared = shared_start(rows)
        choices = _distinct_tokens([row[shared:] for row in rows])
        return item.labelled(
            {"input_ids": [rows[0][:shared]], "attention_mask": [[1] * shared], "choices": choices}
        )

    def logits(self, model: Any, batch: Batch) -> torch.Tensor:
        # The head is as wide as the vocabulary, so only the last position is computed.
        logits = model(**self.flat(batch), logits_to_keep=1).logits[:, -1].float()
        return masked(logits.gather(1, batch["choices"]), batch)


class DecodedLetterCollator(LetterCollator):
    """The same, with the decoder's tokens before the letters diverge, ``said`` ``(b, s)`` int64."""

    def own_tensors(self, features: Sequence[Feature], wide: int, batch: Batch) -> Batch:
        said = torch.tensor([feature["said"] for feature in features], dtype=torch.int64)
        return {**super().own_tensors(features, wide, batch), "said": said}


class DecodedLetters(AnswerForm):
    """The logits of the options' letters from the decoder of an encoder-decoder."""

    auto = "AutoModelForSeq2SeqLM"
    layout = layouts.LETTER
    collator = DecodedLetterCollator
    own_keys = ("choices", "said")

    def encode(self, writer: Writer, item: Item) -> Feature:
        """The encoder's row, the decoder's tokens so far (``said``), and each letter's token."""
        row = writer.question(item.shared_context(), item.prompt, item.options, item.places[0]).ids
        answers = [answer_ids(writer, item, place) for place in item.places]
        shared = shared_start(answers)
        choices = _distinct_tokens([answer[shared:] for answer in answers])
        return item.labelled(
            {**{k: [v] for k, v in row.items()}, "said": answers[0][:shared], "choices": choices}
        )

    def logits(self, model: Any, batch: Batch) -> torch.Tensor:
        device = batch["input_ids"].device
        start = torch.full((len(batch["present"]), 1), start_token(model), device=device)
        said = torch.cat([start, batch["said"]], dim=1)
        logits = model(**self.flat(batch), decoder_input_ids=said).logits[:, -1].float()
        return masked(logits.gather(1, batch["choices"]), batch)


def _distinct_tokens(rests: Sequence[Sequence[int]]) -> list[int]:
    choices = [rest[0] if rest else -1 for rest in rests]
    if -1 in choices or len(set(choices)) < len(choices):
        raise ConfigError(
            "the backbone's tokenizer does not distinguish the letters by one token",
            where="form: letters",
            cure="use form: options",
        )
    return choices
