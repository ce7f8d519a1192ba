"""Questions to a backbone's logits: as items, then in batches of questions of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.contexts import QuestionContexts, Snippet
from kaggle_rag.data.questions import Questions
from kaggle_rag.models.answering.features import Feature, Item
from kaggle_rag.models.layouts import Writer
from kaggle_rag.runtime.console import progress

if TYPE_CHECKING:
    from kaggle_rag.models.loading import Backbone

# Padded tokens in one forward pass where the settings do not say.
_TOKENS = {"cpu": 2_048, "cuda": 16_384}


def score(
    backbone: Backbone,
    writer: Writer,
    items: Sequence[Item],
    batch_tokens: int | None = None,
    asked: Any = None,
    *,
    quiet: bool = False,
) -> npt.NDArray[np.float64]:
    """Logits of each question's options, ``(n, k)``, in batches of questions of like length.

    ``asked`` is the wrapper of a model that lies divided over several devices.
    """
    import torch

    model = asked if asked is not None else backbone.model
    device = backbone.model.device
    collate = backbone.collator()
    features = [backbone.form.features(writer, item) for item in items]
    tokens = batch_tokens or _TOKENS[device.type]
    out = np.full(
        (len(items), max(len(item.options) for item in items)), np.finfo(np.float32).min, np.float64
    )
    with progress(len(items), "rank", "question", disable=quiet or len(items) < 100) as bar:
        for rows in _batches(features, tokens):
            batch = collate([features[row] for row in rows])
            with torch.inference_mode():
                logits = backbone.form.logits(model, {k: v.to(device) for k, v in batch.items()})
            out[rows, : logits.shape[1]] = logits.cpu().numpy()
            bar.update(len(rows))
    return out


def items_of(
    questions: Questions,
    contexts: Sequence[QuestionContexts] | None,
    chunks: int,
    *,
    passages: bool = False,
) -> list[Item]:
    """The questions as models meet them, each option with the first ``chunks`` snippets of its context.

    With ``passages`` these are the passages that were found, without their neighbours and titles: what is
    embedded alone is compared best when it says one thing.
    """
    return [
        Item(
            prompt,
            options,
            tuple(_snippets(found, place, chunks, passages) for place in range(len(options))),
            int(answer),
        )
        for prompt, options, answer, found in zip(
            questions.prompts, questions.options, questions.answers, contexts or repeat(None)
        )
    ]


def _snippets(
    found: QuestionContexts | None, place: int, chunks: int, passages: bool
) -> tuple[Snippet, ...]:
    context = found.of(place) if found else None
    if context is None:
        return ()
    alone = [Snippet("", " ".join(e.text.split()), e.score, (e.row,)) for e in context.evidence]
    snippets = alone if passages and alone else context.snippets
    return tuple(snippets[: chunks or None])


def _batches(features: Sequence[Feature], tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Questions of like length, the longest first, of at most so many padded tokens (or one question)."""
    long = np.array([max(map(len, feature["input_ids"])) for feature in features])
    rows = np.array([len(feature["input_ids"]) for feature in features])
    order = np.argsort(-long, kind="stable")
    begin = 0
    while begin < len(order):
        sizes = (
            np.maximum.accumulate(rows[order[begin:]])
            * long[order[begin]]
            * np.arange(1, len(order) - begin + 1)
        )
        count = max(1, int(np.searchsorted(sizes, tokens, side="right")))
        yield order[begin : begin + count]
        begin += count
