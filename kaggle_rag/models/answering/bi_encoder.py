"""Question, options and snippets embedded apart and compared: begins where `similarity` stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from kaggle_rag.models import layouts
from kaggle_rag.models.answering.base import AnswerForm, Batch, masked
from kaggle_rag.models.answering.collators import DataCollatorForMultipleChoice, spread
from kaggle_rag.models.answering.item import Feature, Item
from kaggle_rag.models.layouts import Writer

# Texts that are embedded at once: like lengths together, so that little of it is padding.
_TEXTS = 64
# Of cosines: that of the training-free ranker, at which an untrained encoder has the least log loss.
_TEMPERATURE = 0.12


class TextCollator(DataCollatorForMultipleChoice):
    """The texts of all questions, each once, ``(1, texts, t)``, and where each stands.

    ``rows`` ``(b, 1 + 2k + m)`` int64: where the question, its options, the options behind the question and
    its snippets stand among the texts, -1 where there is none.
    """

    def rows(self, features: Sequence[Feature], wide: int) -> Batch:
        keys = [key for key in self.tokenizer.model_input_names if key in features[0]]
        most = max(feature["snippets"] for feature in features)
        texts: dict[tuple[int, ...], tuple[int, dict[str, list[int]]]] = {}
        table = []
        for feature in features:
            rows = [dict(zip(keys, row)) for row in zip(*(feature[key] for key in keys))]
            found = [texts.setdefault(tuple(row["input_ids"]), (len(texts), row))[0] for row in rows]
            there = sum(feature["present"])
            question, options, both = found[:1], found[1 : 1 + there], found[1 + there : 1 + 2 * there]
            snippets = found[1 + 2 * there :]
            columns = [spread(feature, each, wide, -1) for each in (options, both)]
            gap = [-1] * (most - len(snippets))
            table.append([*question, *columns[0], *columns[1], *snippets, *gap])
        padded = self.pad([row for _, row in texts.values()])
        return {**{key: value[None] for key, value in padded.items()}, "rows": torch.tensor(table)}


class BiEncoder(AnswerForm):
    """`kaggle_rag.rankers.similarity.novel` by vectors that learn, through the best snippet of each option.

    An encoder of sentences begins where the training-free ranker stands, and is trained by the right
    option alone: nobody has to say which snippet holds the evidence.
    """

    auto = "AutoModel"
    # An option behind its question, without a context: that is embedded apart.
    layout = layouts.APART
    collator = TextCollator
    own_keys = ("rows",)
    embeds = True

    def encode(self, writer: Writer, item: Item) -> Feature:
        """Every text a row of its own: the question, the options, each behind the question, the snippets.

        Snippets are those of all options' contexts, each once; ``snippets`` says how many there are.
        """
        there = [(item.options[place] or "").strip() for place in item.places]
        texts = dict.fromkeys(str(s).strip() for place in item.places for s in item.contexts[place])
        snippets = [text for text in texts if text]
        both = [writer("", item.prompt, item.options, place).ids for place in item.places]
        rows = [
            writer.alone(item.prompt.strip()), *map(writer.alone, there), *both, *map(writer.alone, snippets)
        ]  # fmt: skip
        feature = {key: [row[key] for row in rows] for key in rows[0]}
        return item.labelled({**feature, "snippets": len(snippets)})

    def logits(self, model: Any, batch: Batch) -> torch.Tensor:
        wide = batch["present"].shape[1]
        rows, told = batch["rows"], batch["rows"][:, 1 + 2 * wide :] >= 0
        found = self._vectors(model, batch)[rows.clamp(min=0)]
        prompt, options, both, snippets = found.split([1, wide, wide, told.shape[1]], dim=1)
        words, prior = (options * prompt).sum(-1), (both * prompt).sum(-1)
        if not told.shape[1]:
            return masked(words / _TEMPERATURE, batch)
        about = (snippets * prompt).sum(-1)
        said, added = (
            F.normalize(each - (each * prompt).sum(-1, keepdim=True) * prompt, dim=-1)
            for each in (snippets, both)
        )
        best = _best(both @ snippets.mT, told)
        agreement = _best(added @ said.mT * about[:, None], told)
        novel = best - 0.5 * prior + 0.5 * agreement + 0.25 * words
        return masked(torch.where(told.any(1, keepdim=True), novel, words) / _TEMPERATURE, batch)

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


def _best(scores: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """``(b, k, m)`` to the largest of each option over the snippets that are there."""
    return scores.masked_fill(~told[:, None], torch.finfo(scores.dtype).min).amax(-1)
