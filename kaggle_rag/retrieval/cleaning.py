"""Article text to paragraphs of prose: headings, markup and mathematics residue go, facts stay.

What is removed never holds a number or a formula of the prose: reference marks, HTML entities,
sections of references. A template or a formula is replaced by what it would have shown.
"""

from __future__ import annotations

import html
import re
import unicodedata

from kaggle_rag.retrieval.markup import elements, expand
from kaggle_rag.retrieval.mathematics import tex_to_text

_STYLE = re.compile(r"\{\\(?:display|text|script)style\b")
_GOES_ON = re.compile(r"\n {2,3}(?=\S)")
_REFERENCE = re.compile(
    r"(?<=[\w.,;:!?)\"'”])(?:\[(?:\d{1,3}|[a-z]|note \d+|(?:citation|clarification) needed|when\?|who\?)\])+",
    re.IGNORECASE,
)
# "... of the fuel.: 37–38": the page of a reference, shown behind its mark.
_PAGE = re.compile(r"([.!?][\"”)]?): \d{1,4}(?:[–-]\d{1,4})?(?:, \d{1,4}(?:[–-]\d{1,4})?)*(?!\w)")
# Exports that drop a list or a table glue the sentences around it.
_GLUED = re.compile(r"(?<=[a-z0-9)\]\"”%])([.!?])(?=[A-Z][a-z]+[ ,])")
_TAG = re.compile(
    r"</?(?:ref|br|sup|sub|small|nowiki|i|b|span|div|math|p)"
    r"(?:\s+[\w-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s<>\"']+))*\s*/?>",
    re.IGNORECASE,
)
NOT_PROSE = {
    "references", "external links", "further reading", "see also", "bibliography",
    "notes and references", "citations", "sources", "footnotes",
}  # fmt: skip
_WORD = re.compile(r"\w")


def paragraphs(text: str) -> list[str]:
    """Give the paragraphs of an article in order, each one line of clean text.

    Lines are paragraphs, as in every plain-text export; headings are dropped, and with them the
    sections that hold only references and links. Paragraphs without a letter or digit are dropped.
    """
    text = whole(html.unescape(text))
    text = unicodedata.normalize("NFC", text).replace("\0", "")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _leftovers(_formulae(text))
    kept: list[str] = []
    skipping = 0
    for line in text.split("\n"):
        if level := heading_level(line):
            if not skipping or level <= skipping:
                skipping = level if line.strip(" \t=").lower() in NOT_PROSE else 0
        elif not skipping:
            line = _line(line)
            if _WORD.search(line):
                kept.append(line)
    return kept


def whole(text: str) -> str:
    """Half surrogates, which JSON can smuggle in and no UTF-8 file can hold, as ``?``."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _leftovers(text: str) -> str:
    """Templates and references that an export left as they were written."""
    if "<" in text:
        text = elements(text, ("ref",), lambda name, content: "")
    return expand(text) if "{{" in text else text


def heading_level(line: str) -> int:
    """``2`` for ``== Heading ==``; 0 for a line that is no heading."""
    line = line.strip()
    level = len(line) - len(line.lstrip("="))
    return level if 0 < level < len(line) and line.endswith("=" * level) else 0


def _line(line: str) -> str:
    line = " ".join(_TAG.sub("", line).split())
    return _GLUED.sub(r"\1 ", _PAGE.sub(r"\1", _REFERENCE.sub("", line)))


def _formulae(text: str) -> str:
    r"""Replace every ``{\displaystyle ...}``, with its exploded copy before it, by one line of text."""
    pieces: list[str] = []
    end = 0
    for match in _STYLE.finditer(text):
        if match.start() < end:
            continue
        stop = _closing_brace(text, match.start())
        pieces += [_without_exploded(text[end : match.start()]), " ", tex_to_text(text[match.start() : stop])]
        end = stop
        if goes_on := _GOES_ON.match(text, end):
            end = goes_on.end()
            pieces.append("" if text[end] in ",.;:)" else " ")
    return "".join([*pieces, text[end:]])


def _without_exploded(before: str) -> str:
    """Drop the lines of one symbol each that precede the TeX of a formula.

    They are blank or indented by 4 spaces and more; prose that goes on between two formulae is
    indented by 2 or 3.
    """
    lines = before.split("\n")
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].startswith("    ")):
        lines.pop()
    return "\n".join(lines).rstrip(" ")


def _closing_brace(text: str, start: int) -> int:
    """Position behind the brace that closes the one at ``start`` (the line's end if none does)."""
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
