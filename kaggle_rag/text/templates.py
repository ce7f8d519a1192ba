"""What MediaWiki templates show: one table from name to text, for wikitext and for its leftovers.

A template that is not in the table shows nothing: infoboxes, navigation, citations, maintenance
marks and pronunciations are not prose. Each of them is counted by its name; ``build`` and
``check --corpus`` report the most frequent ones inside lines, and the check also the lost numbers.
"""

from __future__ import annotations

import re

from kaggle_rag.text.foreign_templates import GROUPS, OF_LANGUAGE, by_pattern
from kaggle_rag.text.quantities import quantity, value
from kaggle_rag.text.template_parts import (
    BAR,
    CLOSE,
    OPEN,
    Arguments,
    Show,
    always,
    around,
    at,
    fraction,
    glossed,
    joined,
    raised,
    root,
    since,
)

_FRACTION = re.compile(r"\d{1,3}/\d{1,3}")
_CHARGE = re.compile(r"\d*[+\-−]")
_ACCIDENTALS = {"flat": "♭", "b": "♭", "sharp": "♯", "#": "♯", "natural": "♮"}
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip


def shown(name: str, arguments: Arguments, language: str = "") -> str | None:
    """What a template of a wiki in ``language`` shows in running text; ``None`` if not prose."""
    name = template_name(name)
    if show := OF_LANGUAGE.get(language.partition("-")[0], {}).get(name) or TEMPLATES.get(name):
        return show(arguments) or None
    if name.startswith("lang-"):
        return arguments.at(1)
    if name.startswith("formatnum:"):
        return name.removeprefix("formatnum:")
    # {{1/2}} is a fraction, as {{frac|1|2}} is.
    return name if _FRACTION.fullmatch(name) else by_pattern(name, arguments)


def template_name(name: str) -> str:
    """``Frac`` and `` frac_`` are the same template."""
    return " ".join(name.replace("_", " ").lower().split()).removeprefix("template:")


def _escaped(text: str) -> str:
    """Escape angle brackets that a page shows; what is unescaped after the tags is not a tag."""
    return text.replace("<", "&lt;").replace(">", "&gt;")


def _code(a: Arguments) -> str:
    return _escaped(a.at(1) or a.named.get("code", ""))


def _tag(a: Arguments) -> str:
    """``{{tag|ref}}`` shows ``<ref>…</ref>``, ``{{tag|br|s}}`` ``<br />``."""
    kind, content = a.at(2)[:1], a.named.get("content", "…")
    if not a.at(1):
        return ""
    opening = f"<{' '.join(filter(None, (a.at(1), a.named.get('attribs', ''), '/' if kind == 's' else '')))}>"
    short_forms = {"o": opening, "s": opening, "c": f"</{a.at(1)}>"}
    return _escaped(short_forms.get(kind, f"{opening}{content}</{a.at(1)}>"))


def _named(name: str) -> Show:
    return lambda a: a.named.get(name) or a.at(1)


def _chemical(a: Arguments) -> str:
    """``{{chem|SO|4|2-}}``: symbols and counts are joined, a charge follows ``^``."""
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


def _foreign_link(a: Arguments) -> str:
    # The old order of {{ill}} puts the language code first.
    code_first = re.fullmatch(r"[a-z]{2,3}", a.at(1)) and a.at(2)
    return a.named.get("lt") or a.at(2 if code_first else 1)


def _items(a: Arguments) -> str:
    return "".join(f"\n* {part.strip()}" for part in a.positional if part) + "\n"


def _ship(kind: str) -> Show:
    return lambda a: f"{kind} {a.at(1)}"


def _template_link(a: Arguments) -> str:
    """``{{tl|reflist}}`` names a template: what it shows is not a template itself."""
    return f"{OPEN * 2}{'|'.join(a.positional)}{CLOSE * 2}"


def _music(a: Arguments) -> str:
    if a.at(1) == "time":
        return "/".join(a.positional[1:3])
    return _ACCIDENTALS.get(a.at(1), a.at(1))


def _cell(otherwise: str) -> Show:
    """A template that supplies a cell's attributes, a bar, and what the cell shows."""
    return lambda a: BAR + (a.at(1) or otherwise)


# What is shown, and the templates that show it, separated by semicolons.
_GROUPS: tuple[tuple[Show, str], ...] = (
    (
        at(1),
        "nowrap; nobr; mvar; math; tmath; bigmath; small; smaller; big; bigger; larger; large; midsize; "
        "abbr; tooltip; nobold; noitalic; normal; center; vanchor; visible anchor; sc; smallcaps; unicode; "
        "mono; samp; kbd; tt; var; em; strong; bold; italic; u; underline; strikethrough; not a typo; "
        "chem2; track gauge; railgauge; nts; number table sorting; flag; flagcountry; flagu; block indent; "
        "bi; overline; overbar; gloss; no selflink; longitem; nosplit; "
        "proper name; linktext; music note",
    ),
    (at(2), "numblk"),
    (
        at(-1),
        "lang; langx; wikt-lang; transl; transliteration; script; resize; color; colour; font color; "
        "fontcolor; rtl-lang; background color; colored; text color; columns-list; column list; multicol; "
        "native name; sort; plainlist; plain list; flatlist; font",
    ),
    (joined(""), "gaps"),
    (joined(" "), "si"),
    (at(1), "subatomicparticle; subatomic particle"),
    (lambda a: f"10^{a.at(1)}" if a.at(1).isdigit() else f"10^{{{a.at(1)}}}", "10^"),
    (always("M☉"), "solar mass"),
    (joined(", "), "hlist"),
    (joined("+"), "keypress; key press; key"),
    (joined(" "), "sortname"),
    (lambda a: " ".join(a.positional[:2]), "oldstyledate"),
    (around("ISBN "), "isbn"),
    (
        _named("text"),
        "quote; blockquote; bquote; cquote; quotation; rquote; poemquote; citation needed span; cns",
    ),
    (_named("equation"), "equation box 1"),
    (_items, "ubl; unbulleted list; ulist; bulleted list; blist; vunblist; ordered list; olist"),
    (quantity, "convert; cvt; convert/2; convertir; converti; converter; konvertera; conversion"),
    (value, "val"),
    (fraction, "frac; sfrac; fraction; tfrac"),
    (_chemical, "chem; chem/link; ce"),
    (_stacked, "su"),
    (around("×10^"), "e; exp; x10^"),
    (lambda a: raised(a.at(1)), "sup; superscript"),
    (lambda a: raised(a.at(1), "_"), "sub; subscript"),
    (root, "sqrt; radic; surd"),
    (around("⟨", "⟩"), "angbr; angle bracket"),
    (around("⟨", "∣"), "bra"),
    (around("∣", "⟩"), "ket"),
    (around("∣", "∣"), "abs; mabs"),
    (around("(", ")"), "equationnote"),
    (since("c. "), "circa; c."),
    (since("fl. "), "floruit; fl."),
    (since("r. "), "reign"),
    (around("$"), "us$; usd; $"),
    (around("£"), "gbp; £"),
    (around("€"), "eur; €; euro"),
    (around("₹"), "inr; ₹; indian rupee"),
    (around("¥"), "cny; jpy; ¥"),
    (lambda a: "-".join(a.positional[:2]), "nuclide; nuclide2; simplenuclide; simplenuclide2; nuclide link"),
    (_as_of, "as of; asof"),
    (
        _date,
        "dts; start date; end date; start date and age; birth date and age; death date and age; "
        "end date and age; film date; start-date; birth date; death date; birth-date; date table sorting; "
        "iso date",
    ),
    (glossed, "nihongo; korean; nihongo3; nihongo krt"),
    (_foreign_link, "ill; interlanguage link; link-interwiki; iw2"),
    (lambda a: "".join(a.positional[:2]), "bartable"),
    (
        lambda a: " ".join(filter(None, a.positional[:2])),
        "bibleverse; bibleref; bibleref2; bibleverse with invisible",
    ),
    (around("U.S. Patent "), "us patent; uspat; patent"),
    (_ship("USS"), "uss"),
    (_ship("HMS"), "hms"),
    (_ship("SS"), "ss"),
    (_ship("RMS"), "rms"),
    (always(" "), "nbsp; spaces; space; thinsp; thin space; hair space; hairsp; nnbsp; br; break"),
    (always(" – "), "snd; snds; spnd; spaced ndash; spaced en dash; dash"),
    (always(" — "), "mdashb; spaced mdash; spaced em dash"),
    (always("–"), "ndash; en dash; –; endash"),
    (always("—"), "mdash; em dash; —; emdash"),
    (always(" · "), "·; dot; middot; •; bullet; bull"),
    (always("'s"), "'s"),
    (always("'"), "'; apostrophe; `"),
    (always("' \""), "' \""),
    (always("\"'"), "\"'"),
    (always("="), "="),
    (always("|"), "!"),
    (always("||"), "!!"),
    (always(OPEN), "("),
    (always(CLOSE), ")"),
    (always(OPEN * 2), "(("),
    (always(CLOSE * 2), "))"),
    (_code, "code; codett; code2"),
    (_tag, "tag; xtag"),
    (_template_link, "tl; tlx; tlp; tlc; tlf; tlg; tnull; tld; temp; m-tl"),
    (_cell("N/A"), "n/a; n/a2"),
    (_cell("Yes"), "yes; yes2; table-yes; ja; oui; sí; sì; sim"),
    (_cell("No"), "no; no2; table-no; nein; non; não"),
    (_cell("Main"), "cmain"),
    (_cell("Guest"), "cguest"),
    (_cell("Recurring"), "crecurring"),
    (_cell("TBA"), "tba"),
    (_cell("?"), "dunno; table-unknown"),
    (_cell("Won"), "won"),
    (_cell("Nominated"), "nom; nominated"),
    (_cell("Pending"), "pending"),
    (_cell("Partial"), "partial; table-partial"),
    (_cell("Maybe"), "maybe"),
    (_cell("Some"), "some"),
    (_cell("Any"), "any"),
    (_cell("None"), "none; none2"),
    (_cell("Unofficial"), "unofficial"),
    (_cell("Free"), "free; table-free"),
    (_cell("Proprietary"), "proprietary"),
    (_cell("Unknown"), "unknown; unknown2"),
    (_cell("Good"), "good"),
    (_cell("Sometimes"), "sometimes"),
    (_cell("Runner-up"), "runner-up; sho"),
    (always("−"), "minus"),
    (always("×"), "times"),
    (always("π"), "pi"),
    (always("ħ"), "hbar; h-bar"),
    (always("°"), "deg"),
    (always("†"), "dagger"),
    (always("Yes"), "tick; ya; y; check mark"),
    (always("No"), "cross; na; x mark"),
    (_music, "music"),
)
# Where two wikis use a name differently, the English meaning counts, except for those of OF_LANGUAGE.
TEMPLATES: dict[str, Show] = {
    name.strip(): show for show, names in (*GROUPS, *_GROUPS) for name in names.split(";")
}
