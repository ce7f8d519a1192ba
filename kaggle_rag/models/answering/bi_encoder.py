"""Question, options and snippets embedded separately and compared: starts where `similarity` stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from kaggle_rag.models import layouts
from kaggle_rag.models.answering.base import AnswerForm, Batch, masked
from kaggle_rag.models.answering.collators import DataCollatorForMultipleChoice, spread
from kaggle_rag.models.answering.item import Feature, Item
from kaggle_rag.models.answering.option_vectors import TEXTS
from kaggle_rag.models.writer import Writer

# Texts embedded at once: similar lengths together, to keep padding low.
_TEXTS = 64
# Of cosines: the training-free ranker's, at which an untrained encoder has the lowest log loss.
_TEMPERATURE = 0.12


class TextCollator(DataCollatorForMultipleChoice):
    """The texts of all questions, each once, ``(1, texts, t)``, and the position of each.

    ``rows`` ``(b, 1 + 2k + m)`` int64: positions of the question, its options, the options after the
    question and its snippets among the texts; -1 where absent.
    """

    def rows(self, features: Sequence[Feature], wide: int) -> Batch:
        keys = [key for key in self.tokenizer.model_input_names if key in features[0]]
        most = max(feature["snippets"] for feature in features)
        texts: dict[tuple[int, ...], tuple[int, dict[str, list[int]]]] = {}
        table = []
        for feature in features:
            rows = [dict(zip(keys, row)) for row in zip(*(feature[key] for key in keys))]
            at = [texts.setdefault(tuple(row["input_ids"]), (len(texts), row))[0] for row in rows]
            count = sum(feature["present"])
            question, options, both = at[:1], at[1 : 1 + count], at[1 + count : 1 + 2 * count]
            snippets = at[1 + 2 * count :]
            columns = [spread(feature, each, wide, -1) for each in (options, both)]
            gap = [-1] * (most - len(snippets))
            table.append([*question, *columns[0], *columns[1], *snippets, *gap])
        padded = self.pad([row for _, row in texts.values()])
        return {**{key: value[None] for key, value in padded.items()}, "rows": torch.tensor(table)}


class BiEncoder(AnswerForm):
    """`kaggle_rag.rankers.similarity.novel` with trainable vectors, through the best snippet of each option.

    A sentence encoder starts at the level of the training-free ranker, and is trained on the right option
    alone: no labels say which snippet contains the evidence.
    """

    auto = "AutoModel"
    # An option after its question, without a context, which is embedded separately.
    layout = layouts.APART
    collator = TextCollator
    own_keys = ("rows",)
    embeds = True
    option_vector = TEXTS

    def encode(self, writer: Writer, item: Item) -> Feature:
        """A row per text: the question, the options, each option after the question, the snippets.

        Snippets are those of all options' contexts, each once; ``snippets`` is their number.
        """
        options = [(item.options[place] or "").strip() for place in item.places]
        distinct = dict.fromkeys(str(s).strip() for place in item.places for s in item.contexts[place])
        snippets = [text for text in distinct if text]
        both = [writer("", item.prompt, item.options, place).ids for place in item.places]
        rows = [
            writer.alone(item.prompt.strip()), *map(writer.alone, options), *both,
            *map(writer.alone, snippets),
        ]  # fmt: skip
        feature = {key: [row[key] for row in rows] for key in rows[0]}
        return item.labelled({**feature, "snippets": len(snippets)})

    def logits(self, model: Any, batch: Batch) -> torch.Tensor:
        return self._compared(batch, *self._split(model, batch))

    def with_vectors(self, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors of the question, the option, and the option after the question, one behind the other.

        Each has the length 1: the cosine of two such rows is the mean of the three cosines.
        """
        prompt, options, both, snippets = self._split(model, batch)
        logits = self._compared(batch, prompt, options, both, snippets)
        return logits, torch.cat([prompt.expand_as(options), options, both], dim=-1)

    def _split(self, model: Any, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Vectors of each question, its options, the options after the question and its snippets."""
        wide, rows = batch["present"].shape[1], batch["rows"]
        vectors = self._vectors(model, batch)[rows.clamp(min=0)]
        parts: tuple[torch.Tensor, ...] = vectors.split([1, wide, wide, rows.shape[1] - 1 - 2 * wide], dim=1)
        return parts

    @staticmethod
    def _compared(
        batch: Batch, prompt: torch.Tensor, options: torch.Tensor, both: torch.Tensor, snippets: torch.Tensor
    ) -> torch.Tensor:
        """The logits of `logits`, ``(b, k)``, from vectors ``(b, .., d)``."""
        present = batch["rows"][:, 1 + 2 * batch["present"].shape[1] :] >= 0
        words, prior = (options * prompt).sum(-1), (both * prompt).sum(-1)
        if not present.shape[1]:
            return masked(words / _TEMPERATURE, batch)
        about = (snippets * prompt).sum(-1)
        content, added = (
            F.normalize(each - (each * prompt).sum(-1, keepdim=True) * prompt, dim=-1)
            for each in (snippets, both)
        )
        best = _best(both @ snippets.mT, present)
        agreement = _best(added @ content.mT * about[:, None], present)
        novel = best - 0.5 * prior + 0.5 * agreement + 0.25 * words
        return masked(torch.where(present.any(1, keepdim=True), novel, words) / _TEMPERATURE, batch)

    def _vectors(self, model: Any, batch: Batch) -> torch.Tensor:
        """Mean-pooled unit vectors of all texts, ``(texts, d)`` float32."""
        inputs = self.flat(batch)
        lengths = inputs["attention_mask"].sum(1)
        order = lengths.argsort(descending=True, stable=True)
        parts = []
        for rows in order.split(_TEXTS):
            piece = {key: value[rows, : int(lengths[rows[0]])] for key, value in inputs.items()}
            hidden = model(**piece).last_hidden_state.float()
            mask = piece["attention_mask"][..., None].float()
            parts.append(F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
        return torch.cat(parts)[order.argsort()]


def _best(scores: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """``(b, k, m)`` to each option's maximum over the present snippets."""
    return scores.masked_fill(~present[:, None], torch.finfo(scores.dtype).min).amax(-1)
