"""Settings without effect in a ranker's training, including those that depend on its form."""

from __future__ import annotations

from collections.abc import Iterator

from training.loop import idle as shared
from training.rankers.settings import RankerRun

# Forms whose rows show one option each: the order matters only with a template that shows them all.
_SINGLE_OPTION = ("choice", "bi-encoder", "binary", "options")


def idle(settings: RankerRun) -> Iterator[str]:
    """Yield a line per such setting."""
    yield from shared.idle(settings)
    alone = settings.form in _SINGLE_OPTION and not settings.others and settings.template is None
    if "shuffle_options" in settings.model_fields_set and alone:
        yield f"shuffle_options has no effect in the form {settings.form}: each row shows one option"
