"""What MediaWiki templates show: one table from name to text, for wikitext and for its leftovers.

A template that is not in the table shows nothing: infoboxes, navigation, citations, maintenance
marks and pronunciations are no prose. A template of prose that is missing here is found by
``python -m wiki_index check --corpus``, which counts the numbers that go with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

_NUMBER = re.compile(r"(?:[+\-−]?[\d.,]*\d[\d.,]*(?:[eE][+\-−]?\d+)?)?(?:[+⁄]?\d+//?\d+)?")
_RANGES = {
    "to": " to ", "-": "–", "–": "–", "and": " and ", "or": " or ", "by": " by ", "x": " × ", "×": " × ",
    "xx": " × ", "*": " × ", "+/-": " ± ", "±": " ± ", "+": " + ", ",": ", ", "and(-)": " and ",
    "to(-)": " to ", "to about": " to about ",
}  # fmt: skip
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
_SIMPLE = re.compile(r"[+\-−]?\w+|[+\-−]")
_CHARGE = re.compile(r"\d*[+\-−]")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip


class Arguments(NamedTuple):
    """The arguments of one template: those by position, and those by name."""

    positional: list[str]
    named: dict[str, str]

    def at(self, position: int) -> str:
        """The argument at ``position`` (from 1; negative from the end), or nothing."""
        try:
            return self.positional[position - 1 if position > 0 else position]
        except IndexError:
            return ""


Show = Callable[[Arguments], str]


def shown(name: str, arguments: Arguments) -> str | None:
    """What a template shows in running text; ``None`` for one that is no prose."""
    name = template_name(name)
    if show := TEMPLATES.get(name):
        return show(arguments)
    if name.startswith("lang-"):
        return arguments.at(1)
    if name.startswith("formatnum:"):
        return name.removeprefix("formatnum:")
    return None


def template_name(name: str) -> str:
    """``Frac`` and `` frac_`` are one template."""
    return " ".join(name.replace("_", " ").lower().split()).removeprefix("template:")


def raised(text: str, sign: str = "^") -> str:
    """A superscript (``^``) or subscript (``_``) inside a line of text: ``10^-3``, ``x^{n+1}``."""
    text = text.strip()
    if not text:
        return ""
    return f"{sign}{text}" if _SIMPLE.fullmatch(text) else f"{sign}{{{text}}}"


def scripted(text: str, sign: str, before: str) -> str:
    """A superscript or subscript behind the character ``before``.

    ``m<sup>2</sup>`` is ``m^2``, ``H<sub>2</sub>O`` ``H2O``, ``19<sup>th</sup>`` ``19th``, and
    ``<sup>235</sup>U`` ``235U``.
    """
    text = text.strip()
    is_ordinal = sign == "^" and before.isdigit() and text in ("st", "nd", "rd", "th")
    is_mass = sign == "^" and not before.strip() and text.isdigit()
    is_count = sign == "_" and text.isdigit()
    return text if is_ordinal or is_mass or is_count else raised(text, sign)


def _unit(code: str) -> str:
    """A unit code of {{convert}} as it is printed: ``km2`` is ``km^2``."""
    if many := _MANY.fullmatch(code):
        return f"{_THOUSANDS[many[1]]} {_unit(many[2])}"
    return "/".join(_UNITS.get(part, _power(part)) for part in code.split("/"))


def _power(unit: str) -> str:
    return _POWER.sub(r"^\1", unit)


def _at(position: int) -> Show:
    return lambda a: a.at(position)


def _joined(by: str) -> Show:
    return lambda a: by.join(part for part in a.positional if part)


def _always(text: str) -> Show:
    return lambda a: text


def _around(left: str, right: str = "") -> Show:
    return lambda a: f"{left}{a.at(1)}{right}" if a.at(1) else ""


def _named(name: str) -> Show:
    return lambda a: a.named.get(name) or a.at(1)


def _convert(a: Arguments) -> str:
    """``{{convert|5|to|7|km|mi}}``: the quantity as it is written; conversions are not computed."""
    parts, text, place = a.positional, "", 0
    while place < len(parts) and (_NUMBER.fullmatch(parts[place]) or parts[place] in _RANGES):
        text += _RANGES.get(parts[place], parts[place].replace("//", "/").replace("+", " "))
        place += 1
    if place < len(parts):
        text += f" {_unit(parts[place])}"
    # 5 ft 10 in: a number that stands alone in this place is a precision.
    more = parts[place + 1 : place + 3]
    if len(more) == 2 and more[1] in _SECOND_UNITS and _NUMBER.fullmatch(more[0]):
        text += f" {more[0]} {more[1]}"
    return text.strip()


def _value(a: Arguments) -> str:
    """``{{val|1.2|0.3|e=5|u=kg}}`` is ``(1.2±0.3)×10^5 kg``."""
    value, named = a.at(1), a.named
    errors = [part for part in a.positional[1:3] if part]
    for part in errors:
        value += part if part[0] == "(" else f" {part}" if part[0] in "+-−" else f"±{part}"
    if exponent := named.get("e"):
        if errors and "(" not in value:
            value = f"({value})"
        value = f"{value}×10{raised(exponent)}".removeprefix("×")
    # Not _unit: here C is the coulomb.
    unit = _power(named.get("u") or named.get("ul") or "")
    if per := named.get("up") or named.get("upl"):
        unit += f"/{_power(per)}"
    gap = " " if unit and unit[0] not in "%′″" else ""
    return "".join((named.get("p", ""), value, named.get("s", ""), gap, unit, named.get("end", ""))).strip()


def _fraction(a: Arguments) -> str:
    """``{{frac|2}}`` is 1/2, ``{{frac|1|2}}`` 1/2, ``{{frac|1|2|3}}`` 1 2/3."""
    parts = a.positional[:3]
    if len(parts) < 2:
        return f"1/{parts[0]}" if parts else "/"
    before = f"{parts[0]} " if len(parts) == 3 else ""
    return before + "/".join(p if re.fullmatch(r"[\w.']+", p) else f"({p})" for p in parts[-2:])


def _chemical(a: Arguments) -> str:
    """``{{chem|SO|4|2-}}``: symbols and counts join, a charge stands behind ``^``."""
    text = ""
    for part in a.positional:
        text += f"^{part}" if text and _CHARGE.fullmatch(part) else part
    return text


def _stacked(a: Arguments) -> str:
    return raised(a.named.get("b", ""), "_") + raised(a.named.get("p", ""))


def _as_of(a: Arguments) -> str:
    month = a.at(2)
    if re.fullmatch(r"0?[1-9]|1[0-2]", month, re.ASCII):
        month = _MONTHS[int(month) - 1]
    words = a.named.get("alt") or " ".join(["As of", *filter(None, (a.at(3), month, a.at(1)))])
    return words[0].lower() + words[1:] if a.named.get("lc") else words


def _date(a: Arguments) -> str:
    return "-".join(part.zfill(2) for part in a.positional[:3] if part)


def _glossed(a: Arguments) -> str:
    """``{{nihongo|Mount Fuji|富士山|Fuji-san}}``: the rest stands in brackets behind the first."""
    inside = ", ".join(part for part in a.positional[1:3] if part)
    return f"{a.at(1)} ({inside})" if a.at(1) and inside else a.at(1) or inside


def _foreign_link(a: Arguments) -> str:
    # The old order of {{ill}} puts the language code first.
    code_first = re.fullmatch(r"[a-z]{2,3}", a.at(1)) and a.at(2)
    return a.named.get("lt") or a.at(2 if code_first else 1)


def _items(a: Arguments) -> str:
    return "".join(f"\n* {part.strip()}" for part in a.positional if part) + "\n"


def _ship(kind: str) -> Show:
    return lambda a: f"{kind} {a.at(1)}"


# What shows, and the templates that show so, divided by semicolons.
_GROUPS: tuple[tuple[Show, str], ...] = (
    (
        _at(1),
        "nowrap; nobr; mvar; math; tmath; bigmath; small; smaller; big; bigger; larger; large; midsize; "
        "abbr; tooltip; nobold; noitalic; normal; center; vanchor; visible anchor; sc; smallcaps; unicode; "
        "code; mono; samp; kbd; tt; var; em; strong; bold; italic; u; underline; strikethrough; not a typo; "
        "chem2; track gauge; railgauge; nts; number table sorting; flag; flagcountry; flagu; block indent; "
        "bi; overline; overbar; gloss; no selflink; longitem; nosplit; "
        "proper name; linktext; music note",
    ),
    (_at(2), "numblk"),
    (
        _at(-1),
        "lang; transl; transliteration; script; resize; color; colour; font color; fontcolor; rtl-lang; "
        "background color; colored; text color; columns-list; column list; multicol; native name; sort; "
        "plainlist; plain list; flatlist; font",
    ),
    (_joined(""), "gaps"),
    (_joined(" "), "si"),
    (_at(1), "subatomicparticle; subatomic particle"),
    (lambda a: f"10^{a.at(1)}" if a.at(1).isdigit() else f"10^{{{a.at(1)}}}", "10^"),
    (_always("M☉"), "solar mass"),
    (_joined(", "), "hlist"),
    (_joined("+"), "keypress; key press; key"),
    (_joined(" "), "sortname"),
    (lambda a: " ".join(a.positional[:2]), "oldstyledate"),
    (_around("ISBN "), "isbn"),
    (
        _named("text"),
        "quote; blockquote; bquote; cquote; quotation; rquote; poemquote; citation needed span; cns",
    ),
    (_named("equation"), "equation box 1"),
    (_items, "ubl; unbulleted list; ulist; bulleted list; blist; vunblist; ordered list; olist"),
    (_convert, "convert; cvt; convert/2"),
    (_value, "val"),
    (_fraction, "frac; sfrac; fraction; tfrac"),
    (_chemical, "chem; chem/link; ce"),
    (_stacked, "su"),
    (_around("×10^"), "e; exp; x10^"),
    (lambda a: raised(a.at(1)), "sup; superscript"),
    (lambda a: raised(a.at(1), "_"), "sub; subscript"),
    (_around("√(", ")"), "sqrt; radic; surd"),
    (_around("⟨", "⟩"), "angbr; angle bracket"),
    (_around("⟨", "∣"), "bra"),
    (_around("∣", "⟩"), "ket"),
    (_around("∣", "∣"), "abs; mabs"),
    (_around("(", ")"), "equationnote"),
    (_around("c. "), "circa; c."),
    (_around("fl. "), "floruit; fl."),
    (_around("r. "), "reign"),
    (_around("$"), "us$; usd; $"),
    (_around("£"), "gbp; £"),
    (_around("€"), "eur; €; euro"),
    (_around("₹"), "inr; ₹; indian rupee"),
    (_around("¥"), "cny; jpy; ¥"),
    (lambda a: "-".join(a.positional[:2]), "nuclide; nuclide2; simplenuclide; simplenuclide2; nuclide link"),
    (_as_of, "as of; asof"),
    (_date, "dts; start date; end date; birth date; death date; birth-date; date table sorting; iso date"),
    (_glossed, "nihongo; korean; nihongo3; nihongo krt"),
    (_foreign_link, "ill; interlanguage link; link-interwiki; iw2"),
    (_ship("USS"), "uss"),
    (_ship("HMS"), "hms"),
    (_ship("SS"), "ss"),
    (_ship("RMS"), "rms"),
    (_always(" "), "nbsp; spaces; space; thinsp; thin space; hair space; hairsp; nnbsp; br; break"),
    (_always(" – "), "snd; snds; spnd; spaced ndash; spaced en dash; dash"),
    (_always(" — "), "mdashb; spaced mdash; spaced em dash"),
    (_always("–"), "ndash; en dash; –; endash"),
    (_always("—"), "mdash; em dash; —; emdash"),
    (_always(" · "), "·; dot; middot; •; bullet; bull"),
    (_always("'s"), "'s"),
    (_always("'"), "'; apostrophe; `"),
    (_always("' \""), "' \""),
    (_always("\"'"), "\"'"),
    (_always("="), "="),
    (_always("|"), "!"),
    (_always("||"), "!!"),
    (_always("{"), "("),
    (_always("}"), ")"),
    (_always("−"), "minus"),
    (_always("×"), "times"),
    (_always("π"), "pi"),
    (_always("ħ"), "hbar; h-bar"),
    (_always("°"), "deg"),
    (_always("†"), "dagger"),
    (_always("Yes"), "yes; tick; ya; y; check mark"),
    (_always("No"), "no; cross; na; x mark"),
    (lambda a: {"flat": "♭", "sharp": "♯", "natural": "♮"}.get(a.at(1), a.at(1)), "music"),
)
TEMPLATES: dict[str, Show] = {name.strip(): show for show, names in _GROUPS for name in names.split(";")}
