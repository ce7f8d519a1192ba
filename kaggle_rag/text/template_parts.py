"""Building blocks of the template tables: arguments, and the few ways in which most templates show."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

_SIMPLE = re.compile(r"[+\-−]?\w+|[+\-−]")
# Braces that a template shows, marked as not its own, and the bar after a cell's attributes.
OPEN, CLOSE, BAR = "\x10", "\x11", "\x06"
BRACES = str.maketrans({OPEN: "{", CLOSE: "}", BAR: None})


class Arguments(NamedTuple):
    """The arguments of one template: those by position, and those by name."""

    positional: list[str]
    named: dict[str, str]

    def at(self, position: int) -> str:
        """The argument at ``position`` (from 1; negative from the end), or an empty string."""
        try:
            return self.positional[position - 1 if position > 0 else position]
        except IndexError:
            return ""


Show = Callable[[Arguments], str]


def raised(text: str, sign: str = "^") -> str:
    """A superscript (``^``) or subscript (``_``) inside a line of text: ``10^-3``, ``x^{n+1}``."""
    text = text.strip()
    if not text:
        return ""
    return f"{sign}{text}" if _SIMPLE.fullmatch(text) else f"{sign}{{{text}}}"


def scripted(text: str, sign: str, before: str) -> str:
    """A superscript or subscript after the character ``before``.

    ``m<sup>2</sup>`` is ``m^2``, ``H<sub>2</sub>O`` ``H2O``, ``19<sup>th</sup>`` ``19th``, and
    ``<sup>235</sup>U`` ``235U``.
    """
    text = text.strip()
    is_ordinal = sign == "^" and before.isdigit() and text in ("st", "nd", "rd", "th")
    is_mass = sign == "^" and not before.strip() and text.isdigit()
    is_count = sign == "_" and text.isdigit()
    return text if is_ordinal or is_mass or is_count else raised(text, sign)


def at(position: int) -> Show:
    return lambda a: a.at(position)


def joined(by: str) -> Show:
    return lambda a: by.join(part for part in a.positional if part)


def always(text: str) -> Show:
    return lambda a: text


def around(left: str, right: str = "") -> Show:
    return lambda a: f"{left}{a.at(1)}{right}" if a.at(1) else ""


def fraction(a: Arguments) -> str:
    """``{{frac|2}}`` is 1/2, ``{{frac|1|2}}`` 1/2, ``{{frac|1|2|3}}`` 1 2/3."""
    parts = a.positional[:3]
    if len(parts) < 2:
        return f"1/{parts[0]}" if parts else "/"
    before = f"{parts[0]} " if len(parts) == 3 else ""
    return before + "/".join(p if re.fullmatch(r"[\w.']+", p) else f"({p})" for p in parts[-2:])


def glossed(a: Arguments) -> str:
    """``{{nihongo|Mount Fuji|富士山|Fuji-san}}``: the rest goes in brackets after the first."""
    inside = ", ".join(part for part in a.positional[1:4] if part)
    return f"{a.at(1)} ({inside})" if a.at(1) and inside else a.at(1) or inside
