"""Counts in words, as messages give them."""

from __future__ import annotations

import re
from collections.abc import Mapping


def counted(number: int, one: str, many: str = "") -> str:
    """A number of things: ``1 question``, ``1,200 questions``; ``many`` is a plural that is not ``one`` + s.

    Words that agree with the number belong to both: ``counted(n, "row is", "rows are")``.
    """
    return f"{number:,} " + (one if number == 1 else many or one + "s")


def all_counted(counts: Mapping[str, int]) -> str:
    """Counts by what they are of, in the plural: ``1 question, 3 passages ranked, 0 excluded``."""
    ones = {name: re.sub(r"s\b", "", name, count=1) for name in counts}
    return ", ".join(counted(number, ones[name], name) for name, number in counts.items())
