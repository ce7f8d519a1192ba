"""How likely is each option as the continuation of the question?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from kaggle_rag.models import layouts
from kaggle_rag.models.answering.base import (
    AnswerForm,
    Batch,
    answer_ids,
    masked,
    mean_likelihood,
    start_token,
    token_likelihood,
)
from kaggle_rag.models.answering.collators import DataCollatorForMultipleChoice, spread
from kaggle_rag.models.answering.item import Feature, Item
from kaggle_rag.models.packing import has_virtual_tokens, inner
from kaggle_rag.models.writer import Writer


class AnswerCollator(DataCollatorForMultipleChoice):
    """A row per option, and which of its tokens are the option's own, ``is_answer`` ``(b, k, t)`` bool."""

    def own_tensors(self, features: Sequence[Feature], wide: int, batch: Batch) -> Batch:
        rows = [row for each in features for row in spread(each, each["is_answer"], wide, [False])]
        length = batch["input_ids"].shape[-1]
        gaps = [[False] * (length - len(row)) for row in rows]
        left = self.tokenizer.padding_side == "left"
        padded = [[*gap, *row] if left else [*row, *gap] for row, gap in zip(rows, gaps)]
        return {"is_answer": torch.tensor(padded).view(len(features), wide, -1)}


class Options(AnswerForm):
    """Mean log-likelihood of each option's own tokens after the question.

    Rows are padded on the left, so that all answers end where the row does.
    """

    auto = "AutoModelForCausalLM"
    layout = layouts.OPTION
    collator: ClassVar[type[DataCollatorForMultipleChoice]] = AnswerCollator
    own_keys = ("is_answer",)

    def encode(self, writer: Writer, item: Item) -> Feature:
        """Rows that end with an option, and which of their tokens are its own (``is_answer``)."""
        rows = writer.rows([item.context(p) for p in item.places], item.prompt, item.options, item.places)
        feature: Feature = {key: [row.ids[key] for row in rows] for key in rows[0].ids}
        return item.labelled({**feature, "is_answer": [row.is_answer for row in rows]})

    def logits(self, model: Any, batch: Batch) -> torch.Tensor:
        return masked(mean_likelihood(*self.likelihoods(model, batch)), batch)

    def likelihoods(self, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """See `kaggle_rag.models.answering.marginal.TellsTokens`."""
        questions, wide, tokens = batch["input_ids"].shape
        is_answer = batch["is_answer"].view(-1, tokens)
        longest = tokens - int(torch.nonzero(is_answer.any(0))[0])
        logits = model(**self.flat(batch), logits_to_keep=longest + 1).logits[:, -longest - 1 : -1].float()
        ids = batch["input_ids"].view(-1, tokens)[:, -longest:]
        likely = token_likelihood(logits, ids).view(questions, wide, longest)
        return likely, batch["is_answer"][..., -longest:]


class DecodedAnswerCollator(DataCollatorForMultipleChoice):
    """Rows for the encoder, each once: ``(r, t)``; options that share one, share it.

    ``encoded`` ``(b, k)`` int64 is each option's row, ``answers`` ``(b, k, u)`` int64 its tokens, padded
    with -1.
    """

    def rows(self, features: Sequence[Feature], wide: int) -> Batch:
        keys = [key for key in self.tokenizer.model_input_names if key in features[0]]
        rows: dict[tuple[int, ...], dict[str, list[int]]] = {}
        for feature in features:
            for values in zip(*(feature[key] for key in keys)):
                row = dict(zip(keys, values))
                rows.setdefault(tuple(row["input_ids"]), row)
        numbers = {ids: number for number, ids in enumerate(rows)}
        encoded = [
            spread(feature, [numbers[tuple(ids)] for ids in feature["input_ids"]], wide, 0)
            for feature in features
        ]
        return {**self.pad([*rows.values()]), "encoded": torch.tensor(encoded)}

    def own_tensors(self, features: Sequence[Feature], wide: int, batch: Batch) -> Batch:
        rows = [row for each in features for row in spread(each, each["answers"], wide, [-1])]
        length = max(map(len, rows))
        padded = [[*row, *[-1] * (length - len(row))] for row in rows]
        return {"answers": torch.tensor(padded).view(len(features), wide, -1)}

    def sizes(self, units: Sequence[Sequence[Feature]]) -> list[tuple[int, int]]:
        own = [{tuple(row) for feature in unit for row in feature["input_ids"]} for unit in units]
        return [(len(rows), max(map(len, rows))) for rows in own]


class DecodedOptions(AnswerForm):
    """Mean log-likelihood of each option as the decoder's answer; the encoder reads a question once."""

    auto = "AutoModelForSeq2SeqLM"
    layout = layouts.OPTION
    collator = DecodedAnswerCollator
    own_keys = ("answers", "encoded")

    def encode(self, writer: Writer, item: Item) -> Feature:
        """A row per option for the encoder, and the option for the decoder (``answers``)."""
        rows = [writer.question(item.context(p), item.prompt, item.options, p).ids for p in item.places]
        answers = [answer_ids(writer, item, place) for place in item.places]
        return item.labelled({**{key: [row[key] for row in rows] for key in rows[0]}, "answers": answers})

    def logits(self, model: Any, batch: Batch) -> torch.Tensor:
        return masked(mean_likelihood(*self.likelihoods(model, batch)), batch)

    def likelihoods(self, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """See `kaggle_rag.models.answering.marginal.TellsTokens`."""
        answers = batch["answers"].flatten(0, 1)
        start = torch.full((len(answers), 1), start_token(model), device=answers.device)
        decoder_ids = torch.cat([start, answers.clamp(min=0)[:, :-1]], dim=1)
        given = self._encoded(model, self.inputs(batch), batch["encoded"].flatten())
        logits = model(**given, decoder_input_ids=decoder_ids).logits.float()
        likely = token_likelihood(logits, answers.clamp(min=0))
        return likely.view(batch["answers"].shape), batch["answers"] >= 0

    @staticmethod
    def _encoded(model: Any, rows: Batch, encoded: torch.Tensor) -> dict[str, Any]:
        """What the decoder reads for each option: the encoder's output of its row, or the row itself."""
        plain = getattr(model, "module", model)
        if has_virtual_tokens(plain):
            return {key: values[encoded] for key, values in rows.items()}
        hidden = inner(model).get_encoder()(**rows).last_hidden_state
        return {"encoder_outputs": (hidden[encoded],), "attention_mask": rows["attention_mask"][encoded]}
