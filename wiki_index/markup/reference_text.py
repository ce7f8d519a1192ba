"""The prose of a source by plain substitution, for the linter to compare the articles with.

Nothing here is shared with the readers: these are two ways to the same numbers, and this rougher
one keeps too much rather than too little. Inline templates keep their numbers unless they are
references or remarks, so a template that the readers do not know shows up as lost numbers.
"""

from __future__ import annotations

import html
import re

# Nothing dropped may contain an opening tag: an element that never closes stays, in linear time.
_DROPPED = re.compile(
    r"<!--(?:(?!-->|<!--).)*-->"
    r"|<(ref|gallery|timeline|score|references|imagemap|graph|hiero)\b[^<>]*(?:/>|>(?:(?!</?\1\b).)*</\1\s*>)"
    r"|\n\{\|[^\n]*\b(?:infobox|navbox|sidebar|metadata)\b(?:(?!\n\{\||\n\|\}).)*\n\|\}",
    re.DOTALL | re.IGNORECASE,
)
_TEMPLATE = re.compile(r"(\n[*#:; ]*)?\{\{([^{}]*)\}\}(?=(\s*(?:\n|\Z))?)")
_REMARK = re.compile(
    r"\s*(?:(?:cit|harv|sfn|efn|refn|clarif|dubious|verif|coord|ipa|pron|respell|audio|listen|inflation|"
    r"official|imdb|redirect|anchor|legend|portal|commons|wikt|sister|defaultsort|default sort|displaytitle|"
    r"notelist|vanchor|use (?:dmy|mdy|\w+ english)|flagicon|ref\b|reflist|note|col-|div col)"
    r"|(?:#\w+|rp|r|cn|fact|when|who|which|where|by whom|pages? needed|page number\w*|failed\b.*|better\b.*|"
    r"update\w*|url|issn|doi|oclc|jstor|google\b.*|main|see|see also|further|about|for|other\b.*|"
    r"dist\w*|bar\b.*|age\b.*|\d+col|spaces|tocright|toc limit|nts|ntsh|sort|hs|main article\w*)\s*"
    r"(?:\||\Z|\}))",
    re.IGNORECASE,
)
_LINK = re.compile(r"\[\[([^\[\]]*)\]\]")
# A picture is recognized by its file extension, whatever the wiki's name for files.
_HIDDEN_LINK = re.compile(
    r"\s*(?:file|image|media|category)\s*:"
    r"|[^|:]{1,40}:[^|]*\.(?:jpe?g|png|svg|gif|tiff?|webp|og[gvai]|webm|mid|pdf|djvu|mp3|wav|flac|stl)\s*(?:\||\Z)",
    re.IGNORECASE,
)
_WEB = re.compile(r"\[?(?:https?:)?//[^\s\[\]]+")
_ATTRIBUTE = re.compile(r"\b[a-z]+\s*=\s*(?:\"[^\"\n]*\"|'[^'\n]*'|[\w#%;:-]+)", re.IGNORECASE)
# A style passed to a template without a name: "background:#A020F0".
_STYLE = re.compile(r"\b(?:background|color|width|height)[a-z-]*\s?:\s?[#\w.%]+", re.IGNORECASE)
_FORMULA = re.compile(r"<(math|chem|ce)\b[^<>]*>((?:(?!</?\1\b).)*)</\1\s*>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][^<>]{0,300}>", re.IGNORECASE)
_ROUNDS = 6
# Marks around a formula in rough prose.
OPEN, CLOSE = "⟦", "⟧"


def rough_wikitext(text: str) -> str:
    """Wikitext without references, block templates and files; formulae as TeX between ``⟦`` and ``⟧``."""
    text = _DROPPED.sub(" ", "\n" + text)
    formulae: list[str] = []

    def stash(match: re.Match[str]) -> str:
        formulae.append(match[2])
        return f"{OPEN}\0{len(formulae) - 1}\0{CLOSE}"

    text = _FORMULA.sub(stash, text.replace("\0", ""))
    for _ in range(_ROUNDS):
        text, templates = _TEMPLATE.subn(_arguments, text)
        text, links = _LINK.subn(_label, text)
        if not templates and not links:
            break
    lines = (
        _STYLE.sub("", _ATTRIBUTE.sub("", line)) if line[:1] in ("|", "!", "{") else line
        for line in text.split("\n")
    )
    text = html.unescape(_TAG.sub("", _WEB.sub("", "\n".join(lines))))
    return re.sub("\0(\\d+)\0", lambda match: " ".join(formulae[int(match[1])].split()), text)


def _arguments(match: re.Match[str]) -> str:
    """An inline template's arguments; nothing for a block, a reference or a remark."""
    line, content, end = match.groups()
    name, *arguments = content.split("|")
    if (line is not None and end is not None) or _REMARK.match(name):
        return line or ""
    values = [argument for argument in arguments if "=" not in argument]
    if name.strip().lower() in ("convert", "cvt"):
        # The first number; what follows may be units, other units, a precision.
        values = values[:1]
    return f"{line or ''} {' '.join(values)} "


def _label(match: re.Match[str]) -> str:
    return " " if _HIDDEN_LINK.match(match[1]) else match[1].rpartition("|")[2]


_FLAGS = re.DOTALL | re.IGNORECASE
_PARAGRAPH = re.compile(r"<(p|li|td|th|dd|h[2-6])\b[^<>]*>((?:(?!</?(?:p|li|td|th|dd|h[2-6])\b).)*)", _FLAGS)
_HEADING = re.compile(r"h([2-6])", re.IGNORECASE)
_HTML_DROPPED = re.compile(
    r"<(style|script|math)\b[^<>]*>(?:(?!</?\1\b).)*</\1\s*>"
    r"|<sup\b[^<>]*\breference\b[^<>]*>(?:(?!</?sup\b).)*</sup>",
    _FLAGS,
)
_HTML_FORMULA = re.compile(
    r"<math\b[^<>]*\balttext=\"([^\"<>]*)\"[^<>]*>(?:(?!</?math\b).)*</math\s*>", _FLAGS
)
_HTML_BOX = re.compile(
    r"<table\b[^<>]*\b(?:infobox|navbox|sidebar|metadata|ambox)\b(?:(?!</?table\b).)*</table\s*>", _FLAGS
)


def rough_html(page: str) -> str:
    """Paragraphs, list items and cells of an HTML page, headings as ``== Heading ==`` lines."""
    page = _HTML_BOX.sub(" ", page)
    page = _HTML_DROPPED.sub(" ", _HTML_FORMULA.sub(lambda match: f"{OPEN}{match[1]}{CLOSE}", page))
    lines = []
    for tag, content in _PARAGRAPH.findall(page):
        line = " ".join(html.unescape(_TAG.sub("", content)).split())
        level = _HEADING.match(tag)
        lines.append(f"{'=' * int(level[1])} {line} {'=' * int(level[1])}" if level else line)
    return "\n".join(lines)
