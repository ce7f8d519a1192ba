"""Settings of a training that were given and change nothing with the others given."""

from __future__ import annotations

from collections.abc import Iterator

from kaggle_rag.config import Section

# A setting, and the one without which it has no effect.
_NEEDS = {
    "adversarial_size": "adversarial", "adversarial_from": "adversarial", "weaker": "weaker_contexts",
    "encoder": "index", "margin": "negatives",
}  # fmt: skip


def idle(settings: Section) -> Iterator[str]:
    """A line for each."""
    for key, needed in _NEEDS.items():
        if key in settings.model_fields_set and getattr(settings, needed, None) in (None, 0, "none"):
            yield f"{key} has no effect without {needed}"
    if {"held_out", "validation"} <= settings.model_fields_set and getattr(settings, "validation", None):
        yield "held_out has no effect: validation is given"
