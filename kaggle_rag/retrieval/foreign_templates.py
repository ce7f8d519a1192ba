"""What the templates of large wikis beside the English one show: dates, units, centuries, numbers.

French, German, Spanish, Italian, Portuguese, Dutch, Russian, Polish, Swedish, Japanese and Chinese.
Names hardly collide; where one does, its arguments tell which is meant.
"""

from __future__ import annotations

import re

from kaggle_rag.retrieval.template_parts import (
    Arguments,
    Show,
    always,
    around,
    at,
    fraction,
    joined,
    raised,
)

_MONTHS = {
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "ru": "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
}
_ROMAN = re.compile(r"[IVXLCDM]+", re.IGNORECASE)
_ORDINAL = re.compile(r"(\d+|[ivxlcdm]+)(er|re|e|es|ers|res|nd|nde)")
_CENTURY = re.compile(r"([ivxlcdm]+)(e|er) siècle(.*)")
_LINK, _SPOKEN = re.compile(r"link-[a-z-]{2,7}"), re.compile(r"[a-z]{2,3}s")
_LANGUAGES = {
    "ens": "englisch", "las": "lateinisch", "frs": "französisch", "els": "griechisch", "ars": "arabisch",
    "rus": "russisch", "ess": "spanisch", "its": "italienisch", "jas": "japanisch", "hes": "hebräisch",
    "trs": "türkisch", "pls": "polnisch", "nls": "niederländisch", "fas": "persisch", "zhs": "chinesisch",
    "uks": "ukrainisch", "css": "tschechisch", "pts": "portugiesisch", "svs": "schwedisch", "grcs": "altgriechisch",  # noqa: E501
}  # fmt: skip


def by_pattern(name: str, arguments: Arguments) -> str | None:
    """What a template shows whose name says it: ``{{1er}}``, ``{{XIXe siècle}}``, ``{{enS|…}}``."""
    if found := _CENTURY.fullmatch(name):
        return f"{found[1].upper()}{found[2]} siècle{found[3]}"
    if (found := _ORDINAL.fullmatch(name)) and not arguments.positional:
        return f"{found[1].upper()}{found[2]}"
    if name in _LANGUAGES and arguments.at(1):
        return f"{_LANGUAGES[name]} {arguments.at(1)}"
    if _LINK.fullmatch(name):
        return arguments.at(1)
    return None


def _date(language: str, of: str = " ") -> Show:
    """Day, month and year; a month by its number is written out, and nothing behind the year shows."""
    months = _MONTHS[language].split()

    def show(a: Arguments) -> str:
        parts = [part for part in a.positional[:3] if part]
        if len(parts) == 3 and len(parts[0]) == 4 and parts[0].isdecimal():
            parts.reverse()
        if len(parts) > 1 and re.fullmatch(r"0?[1-9]|1[0-2]", parts[-2], re.ASCII):
            parts[-2] = months[int(parts[-2]) - 1]
        if len(parts) > 1 and language == "fr" and parts[0] == "1":
            parts[0] = "1er"
        return of.join(parts)

    return show


def _quantity(a: Arguments) -> str:
    """``{{unité|5|kg|m|-3}}``: a number, then units, each with its power behind it."""
    text = a.at(1)
    if exponent := a.named.get("e"):
        text += f"×10{raised(exponent)}"
    for part in a.positional[1:]:
        is_power = re.fullmatch(r"[+\-−]?\d+", part) and text[-1:].isalpha()
        text += raised(part) if is_power else f" {part}" if part else ""
    return text.strip()


def _measure(a: Arguments) -> str:
    """Italian ``{{M|5|k|m}}``: a number, the prefix of a unit, and the unit."""
    return " ".join(filter(None, (a.at(1), "".join(a.positional[1:3]))))


def _century(before: str = "", behind: str = "") -> Show:
    """``{{s|XIX|e}}`` is ``XIXe siècle``, and ``{{s2|XIX|e|XX|e}}`` ``XIXe et XXe siècles``."""

    def show(a: Arguments) -> str:
        pairs = [p for p in a.positional if p]
        numbers = [i for i, part in enumerate(pairs) if _ROMAN.fullmatch(part) or part.isdecimal()]
        if not numbers:
            return ""
        ends = [pairs[i + 1] if i + 1 < len(pairs) and pairs[i + 1] in ("e", "er") else "e" for i in numbers]
        said = " et ".join(pairs[i].upper() + end for i, end in zip(numbers, ends))
        return f"{before}{said} siècle{'s' if len(numbers) > 1 else ''}{behind}"

    return show


def _span_of_centuries(a: Arguments) -> str:
    span = " ".join(part for part in a.positional if part).replace(" e", "e").replace(" er", "er")
    return f"{span} siècle" if span else ""


def _named_century(word: str) -> Show:
    """Spanish and Portuguese: ``{{siglo|I|a}}`` is ``siglo I a. C.``"""

    def show(a: Arguments) -> str:
        era = {"a": " a. C.", "d": " d. C."}.get(a.at(2).lower()[:1], "")
        return f"{word} {a.at(1).upper()}{era}" if a.at(1) else ""

    return show


def _clock(*units: str) -> Show:
    return lambda a: " ".join(f"{part} {unit}" for part, unit in zip(a.positional, units) if part)


def _heading_language(a: Arguments) -> str:
    """``{{нп5|Title|shown|language}}`` and its like: the label, or else the title."""
    return a.at(2) or a.at(1)


def _reading(a: Arguments) -> str:
    return f"{a.at(1)}({a.at(2)})" if a.at(1) and a.at(2) else a.at(1)


def _life(a: Arguments) -> str:
    """Chinese ``{{bd|1973年|10月17日|2001年|5月6日}}``."""
    born, died = "".join(a.positional[:2]), "".join(a.positional[2:4])
    return f"({born}－{died})" if born or died else ""


def _paragraph(a: Arguments) -> str:
    return " ".join(["§", *filter(None, a.positional[:2])])


GROUPS: tuple[tuple[Show, str], ...] = (
    (
        _date("fr"),
        "date; date-; date de naissance; date de naissance-; date de décès; date de décès-; date rapide; "
        "date sport; datesport; date républicaine",
    ),
    (_date("es", " de "), "fecha; fecha de nacimiento; fecha de fallecimiento; fecha de inicio"),
    (_date("pt", " de "), "dtlink; dtext; dni; nascimento; morte; data de nascimento; dnibr; dataext"),
    (_date("it"), "data"),
    (_date("ru"), "дата; датарождения; датасмерти; дата рождения; дата смерти"),
    (_quantity, "unité; unite; unité/2; nombre; nb; tmp; température; unidad; fmtn; num; tusental; число"),
    (_measure, "m; misura"),
    (_century(), "s; s-; siècle; siècles; s2; s2-; sap; smaj"),
    (_century(behind=" av. J.-C."), "-s; -s-; -s2; sav"),
    (_span_of_centuries, "sp; sp-"),
    (_named_century("siglo"), "siglo"),
    (_named_century("século"), "séc; século"),
    (_clock("h", "min", "s"), "heure; durée; duração; duración"),
    (_clock("m"), "höhe"),
    (_paragraph, "§"),
    (joined(""), "fchim; formule chimique; fórmula química; chemische formel; formulachimica"),
    (fraction, "bruch; breuk; bråk; ułamek; дробь; 分数; fracción; frazione; fração"),
    (around("×10^"), "x10; 10e"),
    (lambda a: raised(a.at(1), "_"), "ind; indice"),
    (
        at(1),
        "nobr romains; rom; rom-maj; roma; petit; abréviation discrète; abréviation; abr; abd; terme défini; "
        "souverain; souverain-; souverain2; souverain3; nau; navire; esd; versalita; aut; comment; ilc; "
        "petites capitales;"
        "cita; citação; citat; citaat; cytat; zitat; цитата; citazione; citation bloc; citation étrangère; "
        "cita destacada; guil; guillemets; formatonum; liczba; polytonisch; arabisch; hebräisch; 仮リンク; "
        "要出典範囲; jis2004フォント; 補助漢字フォント; en; le; by; s-rom; nobr; terme; mot; unsigned num",
    ),
    (around("« ", " »"), "citation; début citation"),
    (around("– ", " –"), "incise"),
    (at(-1), "langue; w języku; j"),
    (lambda a: a.at(3) or a.at(2), "tsl"),
    (lambda a: a.named.get("texte") or a.named.get("fr") or a.named.get("trad") or a.at(1), "lien"),
    (_heading_language, "нп; нп2; нп3; нп4; нп5; не переведено; не переведено 2; не переведено 3; не переведено 5; iw"),  # noqa: E501
    (_reading, "ruby; 読み仮名; ふりがな; japonais"),
    (_life, "bd"),
    (around("no "), "n°; numéro; no."),
    (always(" av. J.-C."), "av jc; avjc; av. j.-c."),
    (always(" apr. J.-C."), "apr jc; aprjc; apr. j.-c."),
    (always(" a. C."), "ac; a. c.; a.c."),
    (always(" d. C."), "dc; d. c.; d.c."),
    (around("M. "), "m."),
    (around("Mme "), "mme"),
    (around("Dr "), "dr"),
    (around("Pr "), "pr"),
)  # fmt: skip

# What these show on the wikis of one language, whatever others mean by the name.
_ONE_LANGUAGE: dict[str, tuple[tuple[Show, str], ...]] = {
    "fr": (
        (lambda a: raised(a.at(1)) or "e", "e; exp; exposant"),
        (lambda a: " ".join(filter(None, (a.at(1), "av. J.-C."))), "av jc; avjc"),
        (lambda a: " ".join(filter(None, (a.at(1), "apr. J.-C."))), "ap jc; apr jc; aprjc"),
        (at(1), "refnec; référence nécessaire; référence souhaitée; passage à actualiser; année"),
        (around("p. "), "p.; page"),
        (_century(), "s mini; s mini-"),
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
