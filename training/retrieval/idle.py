"""The same of a retriever's or a re-ranker's training, with its losses."""

from __future__ import annotations

from collections.abc import Iterator

from training.loop import idle as shared
from training.retrieval.losses import RETRIEVER_LOSSES
from training.retrieval.settings import RerankerSettings, RetrieverSettings

# Settings that some of the losses take.
_TAKEN = sorted({key for loss in RETRIEVER_LOSSES.values() for key in loss.takes})


def idle(settings: RetrieverSettings | RerankerSettings) -> Iterator[str]:
    """A line for each."""
    yield from shared.idle(settings)
    if isinstance(settings, RetrieverSettings):
        yield from _of_other_losses(settings)


def _of_other_losses(settings: RetrieverSettings) -> Iterator[str]:
    taken = {key: [name for name, loss in RETRIEVER_LOSSES.items() if key in loss.takes] for key in _TAKEN}
    for key, losses in taken.items():
        if key in settings.model_fields_set and settings.loss not in losses:
            yield f"{key} has no effect with the loss {settings.loss}: it belongs to {', '.join(losses)}"
