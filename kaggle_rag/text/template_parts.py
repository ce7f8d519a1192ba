"""Building blocks of the template tables: arguments, and the few ways in which most templates show."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

_SIMPLE = re.compile(r"[+\-−]?\w+|[+\-−]")
_SCRIPT = re.compile(r"<su(p|b)\b[^<>]{0,100}>([^<>]{0,200})</su\1\s*>", re.IGNORECASE)
# <sup>1</sup>⁄<sub>2</sub>
_HALF = re.compile(
    r"(\d?)<sup\b[^<>]{0,100}>\s*(\d{1,4})\s*</sup\s*>\s*[⁄/]\s*<sub\b[^<>]{0,100}>\s*(\d{1,4})\s*</sub\s*>",
    re.IGNORECASE,
)
# Scripts within scripts, as in e<sup>x<sup>2</sup></sup>.
_DEPTH = 4
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


def raised(text: str, sign: str = "^", after: str = "") -> str:
    """A superscript (``^``) or subscript (``_``) inside a line of text: ``10^-3``, ``x^{n+1}``.

    Before a digit it is told by braces where it ends: ``2^{3}3``.
    """
    text = text.strip()
    if not text:
        return ""
    alone = _SIMPLE.fullmatch(text) and not (text[-1:].isdigit() and after[:1].isdigit())
    return f"{sign}{text}" if alone else f"{sign}{{{text}}}"


def scripted(text: str, sign: str, before: str, after: str = "") -> str:
    """A superscript or subscript between the characters ``before`` and ``after``.

    ``m<sup>2</sup>`` is ``m^2``, ``H<sub>2</sub>O`` ``H2O``, ``19<sup>th</sup>`` ``19th``, and
    ``<sup>235</sup>U`` ``235U``; but ``101<sub>2</sub>`` is ``101_2``, and ``log<sub>10</sub>2``
    ``log_{10}2``.
    """
    text, last = text.strip(), before[-1:]
    is_ordinal = sign == "^" and last.isdigit() and text in ("st", "nd", "rd", "th")
    is_mass = sign == "^" and not last.strip() and text.isdigit() and not after[:1].isdigit()
    counts = last.isalpha() or last in tuple(")]}")
    is_count = sign == "_" and text.isdigit() and counts and not before.endswith("log")
    if is_ordinal or is_mass or (is_count and not after[:1].isdigit()):
        return text
    return raised(text, sign, after)


def scripts(text: str) -> str:
    """Replace ``<sup>`` and ``<sub>`` by what `scripted` makes of them, the inner ones first."""

    def show(match: re.Match[str]) -> str:
        (start, end), sign = match.span(), "^" if match[1] in "pP" else "_"
        before, after = match.string[max(0, start - 4) : start], match.string[end : end + 1]
        return scripted(match[2], sign, before, after)

    text = _HALF.sub(lambda match: f"{match[1]}{' ' * bool(match[1])}{match[2]}/{match[3]}", text)
    for _ in range(_DEPTH):
        text, found = _SCRIPT.subn(show, text)
        if not found:
            break
    return text


def at(position: int) -> Show:
    return lambda a: a.at(position)


def joined(by: str) -> Show:
    return lambda a: by.join(part for part in a.positional if part)


def always(text: str) -> Show:
    return lambda a: text


def since(left: str) -> Show:
    """``{{circa|1500|1510}}`` is ``c. 1500–1510``."""
    return lambda a: left + "–".join(filter(None, a.positional[:2])) if a.at(1) else ""


def root(a: Arguments) -> str:
    """``{{radic|2|3}}`` is the third root of two, ``3√(2)``."""
    return f"{a.at(2)}√({a.at(1)})" if a.at(1) else ""


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
