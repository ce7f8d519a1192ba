"""Wikitext to plain text: what a reader of the page would see, headings as ``== Heading ==`` lines.

Brackets are read by the kit's own scanner (``kaggle_rag.text.markup``) rather than by
mwparserfromhell, which reads 1.9 MB/s where this reads 13, and takes quadratic time
where markup never closes (20 kB of ``{{a|`` take 8 seconds; its issue 364). The tests compare the two.
"""

from __future__ import annotations

import html
import re
from collections import Counter

from kaggle_rag.text.markup import elements, expand
from kaggle_rag.text.mathematics import tex_to_text
from kaggle_rag.text.template_parts import BRACES, scripts
from wiki_index.markup.lone_formulae import ALONE, joined
from wiki_index.markup.site import Site, language_codes, site, switches
from wiki_index.markup.wikitables import GONE, without_tables

# Placeholders for what must not be read as markup; XML cannot hold these characters.
_FORMULA, _LITERAL, _STOP, _GONE = "\x0e", "\x01", "\x02", GONE
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_FORMULAE = {"math", "chem", "ce"}
_LITERALS = {"nowiki", "pre", "source", "syntaxhighlight"}
_COMMENT = re.compile(rf"<!--|<({'|'.join(sorted(_LITERALS))})\b(?:[^<>]*[^<>/])?>", re.IGNORECASE)
_CLOSING = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in _LITERALS}
_CLOSING[""] = re.compile("-->")
# Suffix of the name of a template on a line of its own, and the length that names are cut to.
BLOCK, _NAME = " (block)", 60
# Not prose, though a page shows some of it; `plain` counts each.
_HIDDEN = {
    "ref", "references", "gallery", "timeline", "score", "hiero", "imagemap", "graph", "templatestyles",
    "templatedata", "categorytree", "inputbox", "maplink", "mapframe", "indicator", "includeonly",
}  # fmt: skip
# Languages of wikis that are shown in more than one script: ``-{zh-hans:计算机; zh-hant:電腦}-``.
_VARIED = {"zh", "gan", "sr", "sh", "kk", "ku", "tg", "uz", "crh", "iu", "shi", "ban", "tly", "wuu"}
_VARIANT = re.compile(r"-\{([^{}]*)\}-")
_RULE = re.compile(r"\s*[a-z]{2,3}(?:-[a-z]{2,4})?\s*:(?!//)", re.IGNORECASE)
_APOSTROPHES = re.compile(r"'{2,}")
# What the page does not show, though its source holds it.
_INVISIBLE = re.compile(
    r"<(span|div)\b[^<>]{0,200}style\s*=[^<>]{0,200}(?:display\s*:\s*none|visibility\s*:\s*hidden)[^<>]{0,200}>"
    r"[^<>]{0,500}</\1\s*>",
    re.IGNORECASE,
)
_BREAKING = re.compile(
    r"</?(?:p|li|ul|ol|dl|dt|dd|hr|tr|table|div|blockquote|poem|center)\b[^<>]*>", re.IGNORECASE
)
_SPACING = re.compile(r"</?(?:br|td|th)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(
    r"</?(abbr|b|bdi|bdo|big|caption|cite|code|data|del|dfn|em|font|h[1-6]|i|includeonly|ins|kbd|mark|nowiki|"
    r"noinclude|onlyinclude|q|rb|ref|rp|rt|ruby|s|samp|section|small|span|strike|strong|tbody|thead|"
    r"time|tt|u|var|wbr|math|chem|ce|pre|source|syntaxhighlight|gallery|references)\b[^<>]*>",
    re.IGNORECASE,
)
_LEFT_SCRIPT = re.compile(r"</?su[bp]\b[^<>]*>", re.IGNORECASE)
_WEB_LINK = re.compile(
    r"\[(?:[a-z]{3,6}:)?//[^\s\[\]]*(?:[ \t]+([^\[\]\n]*))?\]|\[mailto:[^\s\[\]]+ ([^\[\]\n]*)\]"
)
_SWITCH = re.compile(r"__([^\W\d]\w{1,60}?)__")
_OPEN_LINK = re.compile(r"\[\[(?:[^\[\]|\n]{0,250}\|)?|\]\]|\{\{|\}\}")
# "(; [gone])" and "Iron ( ) is": what is left of brackets when a template in them shows nothing.
_EMPTY = re.compile(rf" ?\((?:[ ,;:]{{0,9}}{_GONE})+[ ,;:]{{0,9}}\)")
_EMPTY_START = re.compile(rf"\((?:[ ,;:]{{0,9}}{_GONE})+[ ,;:]{{0,9}}")
_EMPTY_END = re.compile(rf"(?<![ ,;:{_GONE}])(?:[ ,;:]{{0,9}}{_GONE})+ ?\)")
_BEFORE_STOP = re.compile(rf" {_GONE}+ ?(?=[,.;:)])")
_LIST = re.compile(r"[*#:;]+[ \t]*")
_LONE_FORMULA = re.compile(rf"(?:{_FORMULA}\d+{_STOP}[ ,.;]*)+")
# Marks the start of a cell with displayed code, which may look like the attributes of a cell.
_CODE, _CODES = "\x05", {"code", "kbd", "samp", "tt", "var", "q"}
_PLACEHOLDER = re.compile(rf"[{_FORMULA}{_LITERAL}](\d+){_STOP}")


def plain(wikitext: str, wiki: Site | None = None, left_out: Counter[str] | None = None) -> str:
    """The plain text of a page: paragraphs, list items and table rows as lines, headings marked.

    Parameters
    ----------
    wiki : the wiki that the page comes from; without it, names of every language count.
    left_out : counts what the text leaves out of the page, by name: ``{{unité}}`` for a template
        inside a line, ``{{Infobox}} (block)`` for others, ``<gallery>``, ``[[File:…]]``.
    """
    wiki = wiki or site()
    left_out = Counter() if left_out is None else left_out
    stored: list[str] = []

    def store(name: str, content: str) -> str:
        if name in _HIDDEN:
            left_out[f"<{name}>"] += 1
            return ""
        shown = tex_to_text(content) if name == "math" else content
        stored.append(html.unescape(_chemistry(content) if name in ("chem", "ce") else shown))
        return f"{_FORMULA if name in _FORMULAE else _LITERAL}{len(stored) - 1}{_STOP}"

    text = elements(_without_comments(_CONTROL.sub("", wikitext)), _FORMULAE | _LITERALS | _HIDDEN, store)
    if wiki.language.partition("-")[0] in _VARIED:
        text = _VARIANT.sub(_variant, text)
    text = expand(
        text,
        link=lambda parts: _link(parts, wiki, left_out),
        gone=_GONE,
        untold=lambda name, inside: left_out.update([f"{{{{{name[:_NAME]}}}}}{'' if inside else BLOCK}"]),
        language=wiki.language,
    )
    lines = joined([_line(line) for line in without_tables(_inline(text).split("\n"), left_out)])
    text = _PLACEHOLDER.sub(lambda match: stored[int(match[1])], "\n".join(lines))
    return text.replace(_CODE, "").translate(BRACES)


def _variant(match: re.Match[str]) -> str:
    """What a reader of the first variant sees of ``-{…}-``; rules and titles alone show nothing."""
    flags, bar, content = match[1].rpartition("|")
    kinds = {flag.strip().upper() for flag in flags.split(";")} if bar else set()
    if kinds & {"H", "T", "-", "N", "D"} and "A" not in kinds:
        return ""
    if not _RULE.match(content):
        return content
    first = content.partition(";")[0].partition(":")[2]
    # One-way rules: "words=>zh-cn:text".
    return first.rpartition("=>")[2].strip()


def _without_comments(text: str) -> str:
    """Drop ``<!-- … -->``, except where a page shows it, in ``<nowiki>`` and the like.

    A comment that never closes loses only its mark.
    """
    pieces, end, unclosed = list[str](), 0, set[str]()
    while match := _COMMENT.search(text, end):
        name = (match[1] or "").lower()
        closing = None if name in unclosed else _CLOSING[name].search(text, match.end())
        if not closing:
            # Searched for once, so that a page full of them is read in linear time.
            unclosed.add(name)
        stop = closing.end() if closing else match.end()
        pieces.append(text[end : stop if name else match.start()])
        end = stop
    return "".join([*pieces, text[end:]])


def _chemistry(formula: str) -> str:
    """mhchem: ``^{235}_{92}U`` and ``2H2 + O2 -> 2H2O`` are readable with few changes."""
    for arrow, sign in (("<=>", "⇌"), ("<->", "↔"), ("->", "→"), ("<-", "←")):
        formula = formula.replace(arrow, sign)
    return " ".join(re.sub(r"\\[a-z]+|[{}$]", "", formula).split())


def _link(parts: list[str], wiki: Site, left_out: Counter[str]) -> str:
    """What a link shows: its label or its target; nothing for files, categories and other languages."""
    target = parts[0].strip()
    space, colon, rest = target.partition(":")
    if colon and space:
        if kind := wiki.hides(target):
            left_out[f"[[{kind.capitalize()}:…]]"] += 1
            return ""
        if len(parts) == 1 and rest and space.strip().lower() in language_codes():
            left_out["[[language:…]]"] += 1
            return ""
    target = target.removeprefix(":")
    if len(parts) == 1:
        return target
    # [[Iron (metal)|]]: MediaWiki fills in the label.
    return parts[-1] if parts[-1].strip() else re.sub(r" \([^()]*\)$", "", target.split(":")[-1])


def _inline(text: str) -> str:
    """Convert marks inside a line: quotes, superscripts, tags, web links."""
    text = _APOSTROPHES.sub(lambda match: "'" if len(match[0]) == 4 else "'" * (len(match[0]) - 5), text)
    text = _SPACING.sub(" ", _BREAKING.sub("\n", _INVISIBLE.sub("", text)))
    # Tags inside of scripts go first: 10<sup><small>6</small></sup>.
    text = _LEFT_SCRIPT.sub("", scripts(_TAG.sub(_tag, text)))
    text = _WEB_LINK.sub(lambda match: match[1] or match[2] or "", text)
    return _SWITCH.sub(lambda match: "" if match[1] in switches() else match[0], text)


def _tag(match: re.Match[str]) -> str:
    return _CODE if match[1].lower() in _CODES and match[0][1] != "/" else ""


def _line(line: str) -> str:
    line = " ".join(_OPEN_LINK.sub("", line).split())
    if _GONE in line:
        line = _EMPTY_END.sub(")", _EMPTY_START.sub("(", _EMPTY.sub("", line)))
        line = " ".join(_BEFORE_STOP.sub("", line).replace(_GONE, "").split())
    item = _LIST.match(line)
    line = " ".join(html.unescape(line).split())
    rest = line[item.end() :] if item else line
    # Not of a list: its formulae are items.
    is_alone = _LONE_FORMULA.fullmatch(rest) and (item is None or item[0][0] not in "*#")
    return (ALONE if is_alone else "") + rest
