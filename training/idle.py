"""Settings of a training that were given and change nothing with the others given."""

from __future__ import annotations

from collections.abc import Iterator

from kaggle_rag.config import Section
from training.rankers.settings import RankerRun
from training.retrieval.losses import RETRIEVER_LOSSES
from training.retrieval.settings import RetrieverSettings

# A setting, and the one without which it has no effect.
_NEEDS = {
    "adversarial_size": "adversarial", "adversarial_from": "adversarial", "weaker": "weaker_contexts",
    "drop_snippets": "contexts", "margin": "negatives",
}  # fmt: skip
# What only an evaluation asks.
_JUDGED = ("metric", "pool", "candidates")
# Forms whose rows show one option each: their order reaches the model only by a template that shows all.
_ALONE = ("choice", "bi-encoder", "binary", "options")


def idle(settings: Section) -> Iterator[str]:
    """A line for each."""
    given = settings.model_fields_set
    for key, needed in _NEEDS.items():
        if key in given and getattr(settings, key) and getattr(settings, needed) in (None, 0, "none"):
            yield f"{key} has no effect without {needed}"
    if "held_out" in given and getattr(settings, "validation", None):
        yield "held_out has no effect: validation is given"
    if not (getattr(settings, "validation", None) or getattr(settings, "held_out", None)):
        for key in sorted(given.intersection(_JUDGED)):
            yield f"{key} has no effect without an evaluation: give validation, or held_out above 0"
    if isinstance(settings, RetrieverSettings):
        yield from _of_other_losses(settings)
    if isinstance(settings, RankerRun):
        yield from _of_other_forms(settings)


def _of_other_losses(settings: RetrieverSettings) -> Iterator[str]:
    taken = {key: [name for name, loss in RETRIEVER_LOSSES.items() if key in loss.takes] for key in _TAKEN}
    for key, losses in taken.items():
        if key in settings.model_fields_set and settings.loss not in losses:
            yield f"{key} has no effect with the loss {settings.loss}: it belongs to {', '.join(losses)}"


_TAKEN = sorted({key for loss in RETRIEVER_LOSSES.values() for key in loss.takes})


def _of_other_forms(settings: RankerRun) -> Iterator[str]:
    alone = settings.form in _ALONE and not settings.others and settings.template is None
    if "shuffle_options" in settings.model_fields_set and alone:
        yield f"shuffle_options has no effect in the form {settings.form}: a row shows one option"
