"""Quantities as {{convert}} and {{val}} show them: numbers, ranges, errors, powers of ten and units."""

from __future__ import annotations

import re

from kaggle_rag.text.template_parts import Arguments, raised

_NUMBER = re.compile(r"(?:[+\-−]?[\d.,]*\d[\d.,]*(?:[eE][+\-−]?\d+)?)?(?:[+⁄]?\d+//?\d+)?")
_RANGES = {
    "to": " to ", "-": "–", "–": "–", "and": " and ", "or": " or ", "by": " by ", "x": " × ", "×": " × ",
    "xx": " × ", "*": " × ", "+/-": " ± ", "±": " ± ", "+": " + ", ",": ", ", "and(-)": " and ",
    "to(-)": " to ", "to about": " to about ",
}  # fmt: skip
# Of {{val}} alone.
_BETWEEN = {"/": "/"}
_SECOND_UNITS = {"in", "ft", "oz", "lb", "yd", "ch", "chain", "furlong", "cwt"}
_UNITS = {
    "C": "°C", "F": "°F", "C-change": "°C", "F-change": "°F", "sqmi": "sq mi", "sqft": "sq ft",
    "sqin": "sq in", "sqyd": "sq yd", "cuft": "cu ft", "cuin": "cu in", "cumi": "cu mi", "cuyd": "cu yd",
    "usgal": "US gal", "USgal": "US gal", "impgal": "imp gal", "oilbbl": "bbl", "koilbbl": "thousand bbl",
    "Moilbbl": "million bbl", "Goilbbl": "billion bbl", "mpgus": "mpg", "mpgUS": "mpg", "mpgimp": "mpg",
    "LT": "long tons", "ST": "short tons", "PD": "",
}  # fmt: skip
# e6km2 is a million of them.
_MANY = re.compile(r"e(3|6|9|12)(\D.*)")
_THOUSANDS = {"3": "thousand", "6": "million", "9": "billion", "12": "trillion"}
_POWER = re.compile(r"(?<=[A-Za-zµμ])([23])(?!\w)")


def quantity(a: Arguments) -> str:
    """``{{convert|5|to|7|km|mi}}``: the quantity as written; conversions are not computed."""
    parts, text, n = a.positional, "", 0
    while n < len(parts) and (_NUMBER.fullmatch(parts[n]) or parts[n] in _RANGES):
        text += _RANGES.get(parts[n], parts[n].replace("//", "/").replace("+", " "))
        n += 1
    if n < len(parts):
        text += f" {_unit(parts[n])}"
    # 5 ft 10 in: a number alone here is a precision.
    more = parts[n + 1 : n + 3]
    if len(more) == 2 and more[1] in _SECOND_UNITS and _NUMBER.fullmatch(more[0]):
        text += f" {more[0]} {more[1]}"
    return text.strip()


def value(a: Arguments) -> str:
    """``{{val|1.2|0.3|e=5|u=kg}}`` is ``(1.2±0.3)×10^5 kg``."""
    text, named = a.at(1), a.named
    errors = [part for part in a.positional[1:3] if part]
    if (between := _RANGES.get(a.at(2)) or _BETWEEN.get(a.at(2))) and a.at(3):
        text, errors = f"{text}{between}{a.at(3)}", []
    for part in errors:
        text += part if part[0] == "(" else f" {part}" if part[0] in "+-−" else f"±{part}"
    if exponent := named.get("e"):
        if errors and "(" not in text:
            text = f"({text})"
        text = f"{text}×10{raised(exponent)}".removeprefix("×")
    # Not _unit: here C is the coulomb.
    unit = _power(named.get("u") or named.get("ul") or "")
    if per := named.get("up") or named.get("upl"):
        unit += f"/{_power(per)}"
    gap = " " if unit and unit[0] not in "%′″" else ""
    return "".join((named.get("p", ""), text, named.get("s", ""), gap, unit, named.get("end", ""))).strip()


def _unit(code: str) -> str:
    """A unit code of {{convert}} as it is printed: ``km2`` is ``km^2``."""
    if many := _MANY.fullmatch(code):
        return f"{_THOUSANDS[many[1]]} {_unit(many[2])}"
    return "/".join(_UNITS.get(part, _power(part)) for part in code.split("/"))


def _power(unit: str) -> str:
    return _POWER.sub(r"^\1", unit)
