"""Article text to paragraphs of prose: headings, markup and mathematics residue go, facts stay.

What is removed never holds a number or a formula of the prose: reference marks, lists of works and
links. Templates and formulae are replaced by what they would have shown. Three rules throughout: what
the page shows is kept; what is dropped is counted by name; every rule that drops is listed here.

* Reference marks, ``[12]``, ``[note 3]``, ``[a]``, after a word or punctuation; not after a single
  letter, in a word (``benzo[a]pyrene``) or before an operator, where they are indices.
* Page marks, ``: 37–38`` and ``: page 6``, after the end of a sentence and before another one.
* Lines of works and links under the headings of `works`, the tags and entities of an export,
  headings, and lines without a letter or digit.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter

from kaggle_rag.text.markup import elements, expand
from kaggle_rag.text.mathematics import tex_to_text
from kaggle_rag.text.template_parts import BRACES, scripts
from kaggle_rag.text.works import kind_of_section, prose_lines

_STYLE = re.compile(r"\{\\(?:display|text|script)style\b")
_CONTINUATION = re.compile(r"\n {2,3}(?=\S)")
_MARK = r"(?:[1-9]\d{0,2}|[a-z]|note \d+|(?:citation|clarification) needed|when\?|who\?)\]"
_REFERENCE = re.compile(
    rf"\[(?:(?<=\w\w\[)|(?<=[.,;:!?)\"'”]\[)){_MARK}(?:\[{_MARK})*"
    # "across a valley.[45]The Romans": an export may glue the next sentence to a mark.
    r"(?:(?![\w\[({])(?!\s?[=+*/<>^])(?!-\w)|(?<=\w\w[.!?]\[\d\])(?=(?-i:[A-Z][a-z]))"
    r"|(?<=\w\w[.!?]\[\d\d\])(?=(?-i:[A-Z][a-z])))",
    re.IGNORECASE,
)
# "... of the fuel.: 37–38": the page of a reference, shown after its mark.
_NUMBER = r"(?:\d{1,4}(?:\.\d{1,2})?|[ivxl]{1,7})"
_PAGES = rf"{_NUMBER}(?:[–-]{_NUMBER})?(?: ?ff?\b\.?)?"
# "... the governor general.: page 6", "...: §§ 5A(2), 26(1)": a word or a sign marks it as a page.
_NAMED = (
    rf"(?:pp?\.|[Pp]ages?|S\.|[Cc]h(?:ap(?:ter)?)?\.?|[Ss]ec\.?|§§?) ?{_PAGES}[A-Z]?(?:\(\d{{1,3}}\))?"
    r"(?:, ?\d{1,4}\(\d{1,3}\))*"
)
_PAGE = re.compile(
    rf"([.!?][\"”)]?)(?:(?:\s?: ?(?:{_NAMED}|{_PAGES})(?:, ?{_PAGES})*)+"
    r"(?=\s*$|\s+[\"“(]?(?:[^\W\d_a-z][^\W\d_A-Z]{2,}|A|I|In|It|On|At|He|As|An|By|To|Of|If|We|No|So|Or)\b"
    rf"|\s*\[)(?! [A-Z][a-z]+\.?:)|(?:\s?: ?{_NAMED}(?:, ?{_PAGES})*)+(?=\s+[\"“(]?[A-Z]))"
)
_BEGINS_WITH_PAGE = re.compile(rf":\s?(?:{_NAMED}|{_PAGES})(?![^\W\d_]|[,.]\d)")
# After these, a figure is content and not a page.
_SHORTENED = {
    "acc", "alt", "app", "approx", "apt", "art", "av", "ave", "avg", "bur", "cal", "cap", "ch", "circ",
    "cit", "co", "coef", "cm", "col", "conc", "corp", "dept", "dev", "deg", "diam", "dim", "dist", "div",
    "ed", "elev", "eq", "equiv", "esp", "est", "etc", "ext", "fig", "figs", "freq", "ft", "gen", "gov",
    "hr", "hrs", "ht", "inc", "incl", "km", "lat", "lb", "lbs", "len", "lim", "lon", "long", "ltd", "max",
    "mi", "min", "misc", "mol", "mt", "no", "nos", "nr", "num", "obs", "op", "oz", "para", "pct",
    "pl", "pop", "pos", "pp", "prob", "prop", "prov", "pt", "ref", "refs", "rel", "rep", "reg", "resp",
    "sec", "seq", "spec", "sq", "st", "sta", "stat", "std", "subj", "tel", "temp", "temps", "tot", "univ",
    "var", "vel", "vert", "vol", "vols", "vs", "wt", "yd", "yr", "yrs", "jan", "feb", "mar", "apr", "jun",
    "jul", "aug", "sep", "sept", "oct", "nov", "dec",
}  # fmt: skip
_LAST_WORD = re.compile(r"([^\W\d_]+)\.\s*$")
_OWN_SENTENCE = re.compile(r"\w\W+\w+\W+(\w+)\W{0,3}$")
# Exports that drop a list or a table glue the sentences around it together.
_GLUED = re.compile(r"(?<=[a-z0-9)\]\"”%])([.!?])(?=[A-Z][a-z]+[ ,])")
_TAG = re.compile(
    r"</?(?:ref|br|sup|sub|small|nowiki|i|b|span|div|math|p)"
    r"(?:\s+[\w-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s<>\"']+))*\s*/?>",
    re.IGNORECASE,
)
# Names under which `paragraphs` counts what it drops.
SECTION, MARKS, PAGES, TAGS = "section ", "marks of references", "marks of pages", "tags"
_WORD = re.compile(r"\w")
_NAME = 60


def paragraphs(text: str, is_rendered: bool = False, left_out: Counter[str] | None = None) -> list[str]:
    """Return the paragraphs of an article in order, each one line of clean text.

    Lines are paragraphs, as in every plain-text export; headings are dropped, and so are works and
    links in the sections that list them, and paragraphs without a letter or digit.

    Parameters
    ----------
    is_rendered : the text is what a page shows, including any tag, entity or mark in it; otherwise
        it is an export, whose leftover markup is removed.
    left_out : counts what is dropped, by name: lines in the case of ``section References``.
    """
    left_out = Counter() if left_out is None else left_out
    text = unicodedata.normalize("NFC", whole(text)).replace("\0", "")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not is_rendered:
        text = _unescaped(_leftovers(_formulae(text), left_out), left_out)
    prose: list[str] = []
    section, lines = _Section("", 0), list[str]()
    for line in text.split("\n"):
        if level := heading_level(line):
            if not section.level or level <= section.level:
                prose += section.close(lines, left_out)
                section, lines = _Section(line, level), []
            elif section.kind:
                prose += section.close(lines, left_out)
                lines = []
        elif _WORD.search(line := _line(line, is_rendered, left_out)):
            lines.append(line)
    return prose + section.close(lines, left_out)


class _Section:
    """A heading, its level, and the kind of section that its name suggests."""

    def __init__(self, heading: str, level: int) -> None:
        self.name = heading.strip(" \t=")
        self.kind = kind_of_section(heading)
        self.level = level if self.kind else 0

    def close(self, lines: list[str], left_out: Counter[str]) -> list[str]:
        """The prose among its lines."""
        if not self.kind or not lines:
            return lines
        prose = prose_lines(lines, self.kind)
        if dropped := len(lines) - len(prose):
            left_out[SECTION + self.name.capitalize()] += dropped
        return prose


def whole(text: str) -> str:
    """Replace lone surrogates, which JSON can smuggle in and no UTF-8 file can hold, by ``?``."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _leftovers(text: str, left_out: Counter[str]) -> str:
    """Resolve templates and drop references that an export left as written."""

    def drop(name: str, content: str) -> str:
        left_out[f"<{name}>"] += 1
        return ""

    if "<" in text:
        text = elements(text, ("ref",), drop)
    if "{{" not in text:
        return text
    return expand(text, untold=lambda name, _: left_out.update([f"{{{{{name[:_NAME]}}}}}"])).translate(BRACES)


def _unescaped(text: str, left_out: Counter[str]) -> str:
    """Undo the one layer of escaping that an export has; a tag is markup before that, and text after it."""
    text, tags = _TAG.subn("", scripts(text))
    if tags:
        left_out[TAGS] += tags
    return html.unescape(text)


def heading_level(line: str) -> int:
    """``2`` for ``== Heading ==``; 0 for a line that is not a heading."""
    line = line.strip()
    level = len(line) - len(line.lstrip("="))
    return level if 0 < level < len(line) and line.endswith("=" * level) else 0


def _line(line: str, is_rendered: bool, left_out: Counter[str]) -> str:
    line = " ".join(line.split())
    if is_rendered:
        return _GLUED.sub(r"\1 ", line)
    line, marks = _REFERENCE.subn("", line)
    if marks:
        left_out[MARKS] += marks
    return _GLUED.sub(r"\1 ", _PAGE.sub(lambda match: _without_page(match, left_out), line))


def _without_page(match: re.Match[str], left_out: Counter[str]) -> str:
    """Drop a page after the end of a sentence: after a full word, and at least three words."""
    before = _OWN_SENTENCE.search(match.string, max(0, match.start() - 80), match.start())
    if not before or before[1].lower() in _SHORTENED:
        return match[0]
    left_out[PAGES] += 1
    return match[1]


def ends_short(text: str, letters: int = 0) -> bool:
    """Whether the last word of a text is an abbreviation, such as ``approx.``, or has so few letters."""
    last = _LAST_WORD.search(text[-40:])
    return bool(last and (last[1].lower() in _SHORTENED or len(last[1]) <= letters))


def begins_with_page(piece: str, before: str) -> bool:
    """Whether ``piece`` begins with the page of a reference after the sentence ``before``: ``: 37 The …``."""
    own = _OWN_SENTENCE.search(before[-80:])
    return bool(own and own[1].lower() not in _SHORTENED and _BEGINS_WITH_PAGE.match(piece))


def _formulae(text: str) -> str:
    r"""Replace every ``{\displaystyle ...}``, with its exploded copy before it, by one line of text."""
    pieces: list[str] = []
    end = 0
    for match in _STYLE.finditer(text):
        if match.start() < end:
            continue
        stop = _closing_brace(text, match.start())
        pieces += [
            _without_exploded(text[end : match.start()]),
            " ",
            tex_to_text(html.unescape(text[match.start() : stop])),
        ]
        end = stop
        if continuation := _CONTINUATION.match(text, end):
            end = continuation.end()
            pieces.append("" if text[end] in ",.;:)" else " ")
    return "".join([*pieces, text[end:]])


def _without_exploded(before: str) -> str:
    """Drop the lines of one symbol each that precede the TeX of a formula.

    They are blank or indented by 4 spaces or more; prose that continues between two formulae is
    indented by 2 or 3.
    """
    lines = before.split("\n")
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].startswith("    ")):
        lines.pop()
    return "\n".join(lines).rstrip(" ")


def _closing_brace(text: str, start: int) -> int:
    """Position after the brace that closes the one at ``start`` (the line's end if none does)."""
    depth = 0
    for position in range(start, len(text)):
        character = text[position]
        if character == "\n":
            return position
        if character in "{}" and not (position > start and text[position - 1] == "\\"):
            depth += 1 if character == "{" else -1
            if depth == 0:
                return position + 1
    return len(text)
