"""Settings given for a training run that have no effect alongside the others."""

from __future__ import annotations

from collections.abc import Iterator

from kaggle_rag.runtime.settings import Section

# Each setting, and the one without which it has no effect.
_NEEDS = {
    "adversarial_size": "adversarial", "adversarial_from": "adversarial", "weaker": "weaker_contexts",
    "drop_snippets": "contexts_file", "margin": "negatives",
}  # fmt: skip
# Settings that only an evaluation uses.
_EVALUATION = ("metric", "pool", "candidates")


def idle(settings: Section) -> Iterator[str]:
    """Yield a line per such setting."""
    given = settings.model_fields_set
    for key, needed in _NEEDS.items():
        if key in given and getattr(settings, key) and getattr(settings, needed) in (None, 0, "none"):
            yield f"{key} has no effect without {needed}"
    if "held_out" in given and getattr(settings, "validation", None):
        yield "held_out has no effect: validation is given"
    if not (getattr(settings, "validation", None) or getattr(settings, "held_out", None)):
        for key in sorted(given.intersection(_EVALUATION)):
            yield f"{key} has no effect without an evaluation: set validation, or held_out above 0"
