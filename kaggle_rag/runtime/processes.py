"""The processes of a training that accelerate launch started, and which of them speaks and writes."""

from __future__ import annotations

import os


def is_first() -> bool:
    """Whether this process is the only one, or the first of those that ``accelerate launch`` started.

    The first one writes and speaks; the others compute.
    """
    return os.environ.get("RANK", "0") == "0"


def processes() -> int:
    """How many processes learn together; each takes its own part of every step."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if processes() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
