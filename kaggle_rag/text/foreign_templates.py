"""What the templates of large non-English wikis show: dates, units, centuries, numbers.

French, German, Spanish, Italian, Portuguese, Russian, Ukrainian, Polish, Japanese and Chinese. Only
what could be confirmed from the templates' documentation or from tests of other readers of these
wikis is listed; any other template is counted by its name. Names rarely collide; where one does, its
arguments show which is meant.
"""

from __future__ import annotations

import re

from kaggle_rag.text.template_parts import Arguments, Show, around, at, fraction, glossed, joined, raised

_MONTHS = {
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "ru": "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
}
# Up to 39: no wiki counts a later century, and words such as "mil" are not numerals.
_ROMAN = re.compile(r"(?=[ivx])x{0,3}(?:ix|iv|v?i{0,3})", re.IGNORECASE)
_ENDS = ("e", "er", "ème", "ère")
_ORDINAL = re.compile(r"\d+(?:ers?|res?|es?|nde?)(?: .+)?")
_ROMAN_ORDINAL = re.compile(r"ier|(?!ie)[ivx]{1,6}e")
_ERA = re.compile(r"([ivx]+)(er|e) (siècle|millénaire)( av\. j\.-c\.)?")
_LINK = re.compile(r"link-[a-z-]{2,7}")
_BEFORE_CHRIST = " av. J.-C."
_LANGUAGES = {
    "ens": "englisch", "las": "lateinisch", "frs": "französisch", "els": "griechisch", "ars": "arabisch",
    "rus": "russisch", "ess": "spanisch", "its": "italienisch", "jas": "japanisch", "hes": "hebräisch",
    "trs": "türkisch", "pls": "polnisch", "nls": "niederländisch", "fas": "persisch", "zhs": "chinesisch",
    "uks": "ukrainisch", "css": "tschechisch", "pts": "portugiesisch", "svs": "schwedisch",
    "grcs": "altgriechisch",
}  # fmt: skip


def by_pattern(name: str, arguments: Arguments) -> str | None:
    """What a template shows if its name says it: ``{{1er|…}}``, ``{{XIXe siècle}}``, ``{{enS|…}}``."""
    if era := _ERA.fullmatch(name):
        return f"{era[1].upper()}{era[2]} {era[3]}{_BEFORE_CHRIST if era[4] else ''}"
    if _ORDINAL.fullmatch(name):
        return f"{name} {arguments.at(1)}".strip()
    if _ROMAN_ORDINAL.fullmatch(name) and not arguments.positional:
        return name.rstrip("er").upper() + name[len(name.rstrip("er")) :]
    if name in _LANGUAGES and arguments.at(1):
        return f"{_LANGUAGES[name]} {arguments.at(1)}"
    if _LINK.fullmatch(name):
        return arguments.at(1)
    return None


def _date(language: str, separator: str = " ") -> Show:
    """Day, month and year; a numeric month is written out, and nothing after the year shows."""
    months = _MONTHS[language].split()

    def show(a: Arguments) -> str:
        parts = [part for part in a.positional[:3] if part]
        if len(parts) > 1 and re.fullmatch(r"0?[1-9]|1[0-2]", parts[-2], re.ASCII):
            parts[-2] = months[int(parts[-2]) - 1]
        if len(parts) > 1 and language == "fr" and parts[0] == "1":
            parts[0] = "1er"
        return separator.join(parts)

    return show


def _quantity(a: Arguments) -> str:
    """``{{unité|5|kg||m|-3}}`` is ``5 kg⋅m^-3``: a number, then units, each followed by its power."""
    text = a.at(1)
    if exponent := a.named.get("e"):
        text += f"×10{raised(exponent)}"
    unit = ""
    for part in filter(None, a.positional[1:]):
        if unit and re.fullmatch(r"[+\-−]?\d+", part):
            unit += raised(part)
        else:
            unit += f"⋅{part}" if unit else part
    return f"{text} {unit}".strip()


def _measure(a: Arguments) -> str:
    """Italian ``{{M|5|k|m}}`` and ``{{M|5|ul=km}}``: a number and its unit, with or without a prefix."""
    unit = "".join(a.positional[1:3]) or a.named.get("u") or a.named.get("ul") or ""
    return f"{a.at(1)} {unit}".strip()


def _ordinal(number: str) -> str:
    """A Roman numeral as written before a century: ``Ier``, ``IIe``; anything else unchanged."""
    if not _ROMAN.fullmatch(number):
        return number
    return number.upper() + ("er" if number.upper() == "I" else "e")


def _century(word: str = " siècle", suffix: str = "") -> Show:
    """``{{s|XIX|e}}`` is ``XIXe siècle``, and ``{{s2|XVIII|XIX}}`` ``XVIIIe et XIXe siècles``.

    On other wikis ``{{s|…}}`` keeps words on one line: what is not a numeral is shown as it is.
    """

    def show(a: Arguments) -> str:
        numbers = [part for part in a.positional if _ROMAN.fullmatch(part)]
        if not numbers:
            return a.at(1)
        plural = "s" if word and len(numbers) > 1 else ""
        return f"{' et '.join(map(_ordinal, numbers))}{word}{plural}{suffix}"

    return show


def _span_of_centuries(suffix: str = "") -> Show:
    """``{{sp|VII|e|ou|VIII|e|s}}`` is ``VIIe ou VIIIe siècles``."""

    def show(a: Arguments) -> str:
        parts = [part for part in a.positional if part not in ("", *_ENDS)]
        plural = "s" if parts and parts[-1] == "s" else ""
        words = [_ordinal(part) for part in parts if part != "s"]
        return f"{' '.join(words)} siècle{plural}{suffix}" if words else ""

    return show


def _spanish_century(a: Arguments) -> str:
    """``{{siglo|I|a|s}}`` is ``siglo I a. C.``, ``{{siglo|XX}}`` the number alone."""
    word = {"s": "siglo ", "S": "Siglo "}.get(a.at(3), "")
    era = {"a": " a. C.", "d": " d. C."}.get(a.at(2).lower()[:1], "")
    return f"{word}{a.at(1).upper()}{era}" if a.at(1) else ""


def _clock(a: Arguments) -> str:
    """``{{heure|22|55}}`` is ``22 h 55``, and with seconds ``22 h 55 min 0 s``."""
    parts = a.positional[:3]
    units = ("h", "min", "s") if len(parts) > 2 else ("h", "")
    return " ".join(f"{part} {unit}".strip() for part, unit in zip(parts, units) if part)


def _height(a: Arguments) -> str:
    return f"{a.at(1)} m" if a.at(1) else ""


def _untranslated(a: Arguments) -> str:
    """``{{нп5|Title|shown|language}}`` and the like: the label, or else the title."""
    named = a.named
    label = a.at(2) or named.get("текст") or a.at(1)
    return label or named.get("надо") or named.get("треба") or ""


def _french_link(a: Arguments) -> str:
    """``{{lien|trad=Title|lang=en|fr=titre|texte=shown}}``."""
    label = a.named.get("texte") or a.named.get("fr")
    return label or a.named.get("titre") or a.at(1) or a.named.get("trad", "")


def _reading(a: Arguments) -> str:
    return f"{a.at(1)}（{a.at(2)}）" if a.at(1) and a.at(2) else a.at(1)


def _life(a: Arguments) -> str:
    """Chinese ``{{bd|1973年|10月17日|2001年|5月6日}}``; the page has the brackets around it."""
    born, died = "".join(a.positional[:2]), "".join(a.positional[2:4])
    return f"{born}－{died}" if born or died else ""


def _titled(title: str) -> Show:
    return lambda a: f"{title} {a.at(1)}".strip()


def _language(a: Arguments) -> str:
    return a.named.get("texte") or (a.at(-1) if len(a.positional) > 1 else "")


GROUPS: tuple[tuple[Show, str], ...] = (
    (_date("fr"), "date; date-; date de naissance; date de naissance-; date de décès; date de décès-"),
    (_date("es", " de "), "fecha"),
    (_date("pt", " de "), "dtlink; dni; dnibr; nascimento; morte; data de nascimento"),
    (_date("ru"), "дата; датарождения"),
    (_quantity, "unité; nombre; tmp; unidad; fmtn; число"),
    (_measure, "m"),
    (_century(), "s; s-; siècle; s2; s2-"),
    (_century(word=""), "s mini; s mini-"),
    (_century(suffix=_BEFORE_CHRIST), "-s; -s-; -s2; -s2-; sav; sav-"),
    (_century(word="", suffix=_BEFORE_CHRIST), "-s mini; -s mini-"),
    (_century(suffix=" apr. J.-C."), "sap; sap-"),
    (_span_of_centuries(), "sp; sp-"),
    (_span_of_centuries(_BEFORE_CHRIST), "-sp; -sp-"),
    (_spanish_century, "siglo"),
    (_clock, "heure"),
    (_height, "höhe"),
    (joined(""), "fchim; formule chimique"),
    (fraction, "bruch; дробь"),
    (lambda a: raised(a.at(1), "_"), "ind"),
    (
        at(1),
        "abréviation discrète; terme défini; comment; подсказка; versalita; cita; zitat; цитата; "
        "polytonisch; formatnum; ta; 仮リンク; en; le",
    ),
    (lambda a: a.at(1) or " ", "esd"),
    (around("« ", " »"), "citation; citation étrangère"),
    (around("– ", " –"), "incise"),
    (_language, "langue; w języku"),
    (lambda a: a.at(3) or a.at(2), "tsl"),
    (_french_link, "lien"),
    (_untranslated, "нп; нп2; нп3; нп4; нп5; не переведено; не переведено 2; не переведено 3"),
    (_untranslated, "не переведено 5; iw"),
    (_reading, "ruby; ルビ; 読み仮名; 読み仮名 ruby不使用"),
    (glossed, "japonais"),
    (_life, "bd"),
    (around("no "), "n°; numéro"),
    (lambda a: f"{a.at(1)}{_BEFORE_CHRIST}", "av jc"),
    (around("", " a. C."), "ac"),
    (_titled("M."), "m."),
    (_titled("Mme"), "mme"),
)

# What these show on the wikis of one language, whatever others mean by the name.
_ONE_LANGUAGE: dict[str, tuple[tuple[Show, str], ...]] = {
    "fr": (
        (lambda a: raised(a.at(1)) or "e", "e; exp; exposant"),
        (lambda a: " ".join(filter(None, (a.at(1), "av. J.-C."))), "av jc; avjc"),
        (lambda a: " ".join(filter(None, (a.at(1), "apr. J.-C."))), "ap jc; apr jc; aprjc"),
        (at(1), "refnec; référence nécessaire; référence souhaitée; passage à actualiser; année"),
        (around("p. "), "p.; page"),
    ),
    "de": ((at(1), "formatnum; zahl"), (at(2), "sortkey")),
    "es": ((at(1), "cita requerida"),),
    "pl": ((at(1), "formatnum"),),
    "ru": ((at(1), "s; нет аи 2"),),
}
OF_LANGUAGE: dict[str, dict[str, Show]] = {
    language: {name.strip(): show for show, names in groups for name in names.split(";")}
    for language, groups in _ONE_LANGUAGE.items()
}
