"""Collate questions of different widths and lengths into one batch of tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from kaggle_rag.models.answering.item import Feature

Batch = dict[str, torch.Tensor]


@dataclasses.dataclass
class DataCollatorForMultipleChoice:
    """Pads questions to ``(batch, options, tokens)``; a form with other rows has its own collator.

    A feature is one question: ``input_ids`` and whatever else its tokenizer returns, each a list of rows
    (one per present option, or a single one for the whole question), ``present`` (one bool per option),
    ``labels`` if the answer is known, ``weight`` if the question counts for less, ``soft``, a teacher's
    probability of each option, ``teacher_vectors``, its vector of each, ``rivals``, whether the right option
    is better than it, and ``number``, its place among them where training keeps a record.
    Rows are padded to the longest of the batch, questions to the widest; an absent option is one attended
    token, so that no row of attention is empty, and is masked by ``present``.

    Parameters
    ----------
    tokenizer : pads on its own side and with its own token.
    pad_to_multiple_of : of the row length; 8 keeps a GPU's tensor cores busy.
    positions : number the tokens of each row from its first real one (``position_ids``), as rows padded
        on the left need.

    Returns
    -------
    ``input_ids``, ``attention_mask`` and the tokenizer's other keys ``(b, rows, t)`` int64; ``present``
    ``(b, k)`` bool; ``labels`` ``(b,)`` int64, ``soft`` ``(b, k)`` and ``teacher_vectors`` ``(b, k, d)``
    float32 and ``rivals`` ``(b, k)`` bool if every feature has them; ``weights`` ``(b,)`` float32 and
    ``numbers`` ``(b,)`` int64 if any feature has one; and what a form's own collator adds (`own_tensors`).

    The shape is that of transformers' ``*ForMultipleChoice`` models
    (https://huggingface.co/docs/transformers/tasks/multiple_choice).
    """

    tokenizer: Any
    pad_to_multiple_of: int | None = None
    positions: bool = False

    def __call__(self, features: Sequence[Feature]) -> Batch:
        wide = max(len(feature["present"]) for feature in features)
        batch = self.rows(features, wide)
        if self.positions:
            batch["position_ids"] = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        batch |= self.own_tensors(features, wide, batch)
        return {**batch, **self.facts(features, wide)}

    def facts(self, features: Sequence[Feature], wide: int) -> Batch:
        """What is known of each question beside its rows, from ``present`` to ``rivals``."""
        batch = {"present": torch.tensor([_widened(feature["present"], wide) for feature in features])}
        if all("labels" in feature for feature in features):
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
        if any("weight" in feature for feature in features):
            batch["weights"] = torch.tensor([float(feature.get("weight", 1.0)) for feature in features])
        if any("number" in feature for feature in features):
            batch["numbers"] = torch.tensor([int(feature.get("number", -1)) for feature in features])
        if all("soft" in feature for feature in features):
            gaps = [[0.0] * (wide - len(feature["soft"])) for feature in features]
            batch["soft"] = torch.tensor([feature["soft"] + gap for feature, gap in zip(features, gaps)])
        if all("teacher_vectors" in feature for feature in features):
            rows = [torch.from_numpy(feature["teacher_vectors"]) for feature in features]
            batch["teacher_vectors"] = torch.stack([F.pad(row, (0, 0, 0, wide - len(row))) for row in rows])
        if all("rivals" in feature for feature in features):
            batch["rivals"] = torch.tensor([_widened(feature["rivals"], wide) for feature in features])
        return batch

    def split(self, questions: Sequence[Sequence[Feature]]) -> list[list[Feature]]:
        """The units that a batch is made of: a question in each order of its options is one by itself."""
        return [[feature] for question in questions for feature in question]

    def units(self, units: Sequence[Sequence[Feature]]) -> Batch:
        """A batch of some units."""
        return self([feature for unit in units for feature in unit])

    def sizes(self, units: Sequence[Sequence[Feature]]) -> list[tuple[int, int]]:
        """How many rows each unit has, and the length of the longest."""
        return [
            (sum(len(f["input_ids"]) for f in unit), max(len(row) for f in unit for row in f["input_ids"]))
            for unit in units
        ]

    def rows(self, features: Sequence[Feature], wide: int) -> Batch:
        """What the backbone reads, ``(b, rows, t)``."""
        keys = [key for key in self.tokenizer.model_input_names if key in features[0]]
        rows: list[dict[str, list[int]]] = []
        for feature in features:
            question_rows = [dict(zip(keys, row)) for row in zip(*(feature[key] for key in keys))]
            rows += self.laid_out(feature, question_rows, wide)
        return {key: value.view(len(features), -1, value.shape[-1]) for key, value in self.pad(rows).items()}

    def laid_out(self, feature: Feature, rows: Sequence[Any], wide: int) -> Sequence[Any]:
        """The rows of one question, one for each of ``wide`` options."""
        # A head of T5 reads the end tokens of a row, and wants as many in each.
        ends = [n for n, token in enumerate(rows[0]["input_ids"]) if token == self.tokenizer.eos_token_id]
        empty = {key: [values[n] for n in ends or [0]] for key, values in rows[0].items()}
        return spread(feature, rows, wide, empty)

    def own_tensors(self, features: Sequence[Feature], wide: int, batch: Batch) -> Batch:
        """Tensors that the form itself reads, besides the ``batch`` of tokens: none here."""
        return {}

    def pad(self, rows: Sequence[dict[str, list[int]]]) -> Batch:
        """Rows padded to equal length by the tokenizer, ``(rows, t)``."""
        padded: Batch = self.tokenizer.pad(
            rows, padding=True, pad_to_multiple_of=self.pad_to_multiple_of, return_tensors="pt"
        )
        return padded


def spread(feature: Feature, values: Sequence[Any], wide: int, empty: Any) -> list[Any]:
    """The values of the present options in their columns, with ``empty`` in all others."""
    remaining = iter(values)
    return [next(remaining) if present else empty for present in _widened(feature["present"], wide)]


def _widened(present: Sequence[bool], wide: int) -> list[bool]:
    return [*present, *[False] * (wide - len(present))]
