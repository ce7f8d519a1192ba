"""Questions of different widths and lengths to one batch of tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

# Keys beside the tokenizer's own that have a number a token, and what they are padded with.
_BESIDE = {"is_answer": False, "answers": -1}


@dataclasses.dataclass
class DataCollatorForMultipleChoice:
    """Pads questions to ``(batch, options, tokens)``, or, of a bi-encoder, texts to ``(1, texts, tokens)``.

    A feature is one question: ``input_ids`` and whatever else its tokenizer gives, each a list of rows
    (one an option that is there, or a single one for the whole question), ``present`` (one bool an
    option), ``labels`` where the answer is known and ``weight`` where the question counts for less.
    Rows are padded to the longest of the batch,
    questions to the widest; an absent option is one attended token, so that no row of attention is
    empty, and is masked by ``present``.

    Parameters
    ----------
    tokenizer : pads on its own side and with its own token.
    pad_to_multiple_of : of the tokens; 8 keeps a GPU's tensor cores busy.
    positions : number the tokens of each row from its first real one (``position_ids``), which a row
        that is padded on the left needs.

    Returns
    -------
    ``input_ids``, ``attention_mask`` and the tokenizer's other keys ``(b, rows, t)`` int64; ``present``
    ``(b, k)`` bool; ``labels`` ``(b,)`` int64 when every feature has them; ``weights`` ``(b,)`` float32
    where a feature has one; ``is_answer`` ``(b, k, t)``
    bool, ``answers`` ``(b, k, u)``, ``choices`` ``(b, k)`` and ``said`` ``(b, s)`` int64 for the forms
    that score by likelihood; ``rows`` ``(b, 1 + 2k + m)`` int64 for a bi-encoder: where the question, its
    options, the options behind the question and its snippets stand among the texts, -1 where there is none.

    The shape is that of transformers' ``*ForMultipleChoice`` models
    (https://huggingface.co/docs/transformers/tasks/multiple_choice).
    """

    tokenizer: Any
    pad_to_multiple_of: int | None = None
    positions: bool = False

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        wide = max(len(feature["present"]) for feature in features)
        apart = "snippets" in features[0]
        batch = self._apart(features, wide) if apart else self._tokens(features, wide)
        if self.positions:
            batch["position_ids"] = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        for key, empty in _BESIDE.items():
            if key in features[0]:
                rows = [row for feature in features for row in _spread(feature, feature[key], wide, [empty])]
                batch[key] = self._padded(rows, key, empty, batch).view(len(features), wide, -1)
        if "choices" in features[0]:
            spread = [_spread(feature, feature["choices"], wide, 0) for feature in features]
            batch["choices"] = torch.tensor(spread)
        if "said" in features[0]:
            batch["said"] = torch.tensor([feature["said"] for feature in features], dtype=torch.int64)
        batch["present"] = torch.tensor([_widened(feature["present"], wide) for feature in features])
        if all("labels" in feature for feature in features):
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
        if any("weight" in feature for feature in features):
            batch["weights"] = torch.tensor([float(feature.get("weight", 1.0)) for feature in features])
        return batch

    def _apart(self, features: Sequence[dict[str, Any]], wide: int) -> dict[str, torch.Tensor]:
        """The texts of all questions, each once, ``(1, texts, t)``, and where each stands."""
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
            columns = [_spread(feature, each, wide, -1) for each in (options, both)]
            gap = [-1] * (most - len(snippets))
            table.append([*question, *columns[0], *columns[1], *snippets, *gap])
        padded = self.tokenizer.pad(
            [row for _, row in texts.values()], padding=True, pad_to_multiple_of=self.pad_to_multiple_of,
            return_tensors="pt",
        )  # fmt: skip
        return {**{key: value[None] for key, value in padded.items()}, "rows": torch.tensor(table)}

    def _tokens(self, features: Sequence[dict[str, Any]], wide: int) -> dict[str, torch.Tensor]:
        """What the backbone reads, ``(b, rows, t)``."""
        keys = [key for key in self.tokenizer.model_input_names if key in features[0]]
        rows: list[dict[str, list[int]]] = []
        for feature in features:
            own = [dict(zip(keys, row)) for row in zip(*(feature[key] for key in keys))]
            filler = {key: values[:1] for key, values in own[0].items()}
            rows += own if "choices" in feature else _spread(feature, own, wide, filler)
        padded = self.tokenizer.pad(
            rows, padding=True, pad_to_multiple_of=self.pad_to_multiple_of, return_tensors="pt"
        )
        return {key: value.view(len(features), -1, value.shape[-1]) for key, value in padded.items()}

    def _padded(
        self, rows: Sequence[Sequence[Any]], key: str, empty: Any, batch: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Rows of equal length: that of the tokens they are beside, or, for a decoder, their own."""
        beside = key == "is_answer"
        long = batch["input_ids"].shape[-1] if beside else max(map(len, rows))
        gaps = [[empty] * (long - len(row)) for row in rows]
        left = beside and self.tokenizer.padding_side == "left"
        return torch.tensor([[*gap, *row] if left else [*row, *gap] for row, gap in zip(rows, gaps)])


def _spread(feature: dict[str, Any], values: Sequence[Any], wide: int, empty: Any) -> list[Any]:
    """The values of the options that are there, in their columns, with ``empty`` in all others."""
    there = iter(values)
    return [next(there) if present else empty for present in _widened(feature["present"], wide)]


def _widened(present: Sequence[bool], wide: int) -> list[bool]:
    return [*present, *[False] * (wide - len(present))]
