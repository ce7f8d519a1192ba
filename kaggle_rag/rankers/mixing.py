"""Whether a trained ranker's snippets are read apart, by its settings and its training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kaggle_rag.runtime.errors import ConfigError

# Those of `kaggle_rag.models.answering.marginal.KINDS`, which imports torch.
MIXED = ("sequence", "token")
TEMPERATURE = 0.1
_WHERE = "rankers.options.marginal"


def mixing_of(
    trained: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None, *, streamed: bool
) -> dict[str, Any] | None:
    """``kind`` and ``temperature``, or ``None`` where snippets are read together.

    Parameters
    ----------
    trained : of the ranker's card.
    wanted : of the settings; what they leave out is as in training.

    Raises
    ------
    ConfigError : an unknown key or kind, a temperature that is none, a model that is streamed.
    """
    if wanted is not None and (not isinstance(wanted, Mapping) or set(wanted) - {"kind", "temperature"}):
        raise ConfigError(
            f"cannot be read: {wanted!r}", where=_WHERE,
            expected="kind and temperature, such as {kind: sequence}",
        )  # fmt: skip
    found = {"kind": "none", "temperature": TEMPERATURE, **(trained or {}), **(wanted or {})}
    if found["kind"] not in ("none", *MIXED):
        raise ConfigError(
            f"no such kind: {found['kind']!r}", where=f"{_WHERE}.kind",
            expected="one of none, " + ", ".join(MIXED),
        )  # fmt: skip
    temperature = found["temperature"]
    if (
        isinstance(temperature, bool)
        or not isinstance(temperature, (int, float))
        or not (0 < temperature < math.inf)
    ):
        raise ConfigError(
            f"{temperature!r}", where=f"{_WHERE}.temperature", expected="a number greater than 0"
        )
    if found["kind"] == "none":
        return None
    if streamed:
        raise ConfigError(
            "a model that is read layer by layer reads snippets together", where=_WHERE,
            cure="remove streamed, or set marginal: {kind: none}",
        )  # fmt: skip
    return found
