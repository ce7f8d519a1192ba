"""The same of a ranker's training, with the forms it answers in."""

from __future__ import annotations

from collections.abc import Iterator

from training.loop import idle as shared
from training.rankers.settings import RankerRun

# Forms whose rows show one option each: their order reaches the model only by a template that shows all.
_ALONE = ("choice", "bi-encoder", "binary", "options")


def idle(settings: RankerRun) -> Iterator[str]:
    """A line for each."""
    yield from shared.idle(settings)
    alone = settings.form in _ALONE and not settings.others and settings.template is None
    if "shuffle_options" in settings.model_fields_set and alone:
        yield f"shuffle_options has no effect in the form {settings.form}: a row shows one option"
