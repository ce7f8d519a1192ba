"""Rankers by name. A new one is a file in this folder and a line in ``RANKERS``."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kaggle_rag.data.questions import Questions
from kaggle_rag.rankers.base import LearnsAtOnce, Ranker
from kaggle_rag.runtime.errors import ConfigError, KitError

# Where each class is. Importing it does not import torch, so a wrong setting is reported at once.
RANKERS = {
    "similarity": "kaggle_rag.rankers.similarity:SimilarityRanker",
    "phrasing": "kaggle_rag.rankers.phrasing:PhrasingRanker",
    "trained": "kaggle_rag.rankers.trained:TrainedRanker",
}


# What the pipeline supplies; a ranker's other arguments are the user's settings.
SHARED = ("encoder", "index", "workspace")


def make_ranker(kind: str, options: Mapping[str, Any], **shared: Any) -> Ranker:
    """Make the ranker ``kind``.

    Parameters
    ----------
    options : the user's settings for it.
    shared : what the pipeline supplies (``encoder``, ``index``, ``workspace``: see
        `kaggle_rag.rankers.base.Workspace`); passed on if the ranker takes it.

    Raises
    ------
    ConfigError : an unknown ranker, or an unknown or missing setting.
    """
    check_options(kind, options)
    factory, parameters = _factory(kind)
    required = [name for name, each in parameters.items() if each.default is each.empty]
    if missing := [name for name in required if name not in (*options, *SHARED)]:
        raise ConfigError(f"the ranker {kind!r} needs the setting {missing[0]!r}", where="rankers.options")
    ranker: Ranker = factory(**options, **{k: v for k, v in shared.items() if k in parameters})
    return ranker


@contextmanager
def numbered(number: int) -> Iterator[None]:
    """Add the ranker's number to the location of a fault in its options; the ranker does not know it."""
    try:
        yield
    except KitError as error:
        if not error.where.startswith("rankers.options"):
            raise
        where = error.where.replace("rankers", f"rankers.{number}", 1)
        raise type(error)(error.what, where=where, expected=error.expected, cure=error.cure) from error


def takes_index(kind: str) -> bool:
    """Whether the ranker ``kind`` uses the index or its encoder."""
    return any(name in ("encoder", "index") for name in _factory(kind)[1])


def learns_at_once(kind: str, options: Mapping[str, Any]) -> bool:
    """Whether this ranker still has to learn, and does so in seconds: by `fitted`."""
    return isinstance(_factory(kind)[0], LearnsAtOnce) and not options


def fitted(kind: str, questions: Questions) -> dict[str, Any]:
    """The options of a ranker that has learnt from these questions.

    Raises
    ------
    InputError : questions without answers.
    """
    factory = _factory(kind)[0]
    assert isinstance(factory, LearnsAtOnce)
    return factory.fitted(questions)


def check_options(kind: str, options: Mapping[str, Any], where: str = "rankers") -> None:
    """Raise ``ConfigError`` for an unknown ranker or an unknown setting of it; ``where`` is its key."""
    _, parameters = _factory(kind, where)
    if unknown := [name for name in options if name not in parameters or name in SHARED]:
        raise ConfigError(
            f"the ranker {kind!r} has no setting {unknown[0]!r}",
            where=f"{where}.options",
            expected="one of " + ", ".join(name for name in parameters if name not in SHARED),
        )


def settings_of(kind: str) -> dict[str, str]:
    """The settings of a ranker and their annotations, as written in its source.

    Raises
    ------
    ConfigError : an unknown ranker.
    """
    _, parameters = _factory(kind)
    return {name: str(each.annotation) for name, each in parameters.items() if name not in SHARED}


def _factory(
    kind: str, where: str = "rankers"
) -> tuple[Callable[..., Ranker], Mapping[str, inspect.Parameter]]:
    if kind not in RANKERS:
        raise ConfigError(
            f"no ranker {kind!r}", where=f"{where}.kind", expected="one of " + ", ".join(RANKERS)
        )
    factory = pkgutil.resolve_name(RANKERS[kind])
    return factory, inspect.signature(factory).parameters
