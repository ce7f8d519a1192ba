"""Settings without effect in a retriever's or re-ranker's training, including those of other losses."""

from __future__ import annotations

from collections.abc import Iterator

from training.loop import idle as shared
from training.retrieval.losses import RETRIEVER_LOSSES
from training.retrieval.settings import RerankerSettings, RetrieverSettings

# Settings that only some losses take.
_LOSS_SETTINGS = sorted({key for loss in RETRIEVER_LOSSES.values() for key in loss.takes})


def idle(settings: RetrieverSettings | RerankerSettings) -> Iterator[str]:
    """Yield a line per such setting."""
    yield from shared.idle(settings)
    if isinstance(settings, RetrieverSettings):
        yield from _of_other_losses(settings)


def _of_other_losses(settings: RetrieverSettings) -> Iterator[str]:
    for key in _LOSS_SETTINGS:
        names = [name for name, loss in RETRIEVER_LOSSES.items() if key in loss.takes]
        if key in settings.model_fields_set and settings.loss not in names:
            yield f"{key} has no effect with the loss {settings.loss}: it applies only to {', '.join(names)}"
