"""The processes of a training run started by accelerate launch, and which of them prints and writes."""

from __future__ import annotations

import os


def is_first() -> bool:
    """Whether this process is the only one, or the first of those that ``accelerate launch`` started.

    The first one writes and prints; the others only compute.
    """
    return rank() == 0


def rank() -> int:
    """The number of this process among those that train together."""
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    """How many processes train together; each takes its own part of every step."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def wait_for_all() -> None:
    """Wait until every process has reached this point."""
    if processes() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
