"""MediaWiki's brackets, read in one pass: ``{{templates}}``, ``[[links]]`` and whole elements.

Every scan here takes time proportional to the text, even where markup never closes: an opening
without its end is text, and what follows is read as if it were not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import lru_cache

from kaggle_rag.text.template_parts import CLOSE, OPEN, Arguments
from kaggle_rag.text.templates import TEMPLATES, shown, template_name

# Deeper than any page nests. Brackets beyond it are text, so that copying stays linear.
DEPTH = 60
_PLAIN_NAME = re.compile(r"\s*[A-Za-z]")
_TOKENS = {
    True: re.compile(r"\{\{|\}\}|\[\[|\]\]|\||=|\n(?=\n|==)"),
    False: re.compile(r"\{\{|\}\}|\||=|\n(?===)"),
}
# A "=" that is shown must not separate a name from its value in the enclosing template.
_EQUALS = "\x03"
# Called with the name of each template that shows nothing, and whether it is inside a line.
Untold = Callable[[str, bool], object]

Link = Callable[[list[str]], str]


class _Open:
    """An opened bracket: its parts between bars, each in pieces, and the position of a part's ``=``."""

    def __init__(self, opener: str) -> None:
        self.opener = opener
        self.parts: list[list[str]] = [[]]
        self.equals: list[int] = [-1]
        self.has_braces = False

    def write(self, text: str) -> None:
        """Add text of the source (``show`` adds what an inner bracket became)."""
        self.has_braces = self.has_braces or "{" in text or "}" in text
        self.parts[-1].append(text)

    def show(self, text: str) -> None:
        self.parts[-1].append(text.replace("=", _EQUALS))

    def divide(self) -> None:
        self.parts.append([])
        self.equals.append(-1)

    def pieces(self) -> list[str]:
        """The original source, for a bracket that means nothing."""
        pieces = [self.opener]
        for number, part in enumerate(self.parts):
            pieces += ["|", *part] if number else part
        return pieces


def expand(
    text: str, link: Link | None = None, gone: str = "", untold: Untold | None = None, language: str = ""
) -> str:
    """Replace templates by what they show and, if ``link`` is given, links by what it returns.

    Parameters
    ----------
    text : wikitext; or, without ``link``, plain text with leftovers of it, where only unmistakable
        templates are replaced, since prose has braces of its own.
    link : called with the parts of a link between its bars.
    gone : placeholder for a template that shows nothing.
    untold : called for each of them.
    language : code of the wiki's, since some names mean different things on different wikis.
    """
    stack = [_Open("")]
    end = 0
    for token in _TOKENS[link is not None].finditer(text):
        stack[-1].write(text[end : token.start()])
        end = token.end()
        if token[0] == "\n":
            _end_of_paragraph(stack, heading=text.startswith("=", end))
            stack[-1].write("\n")
        else:
            name = _take(token[0], stack, link, gone, language)
            if name and untold:
                untold(name, not _innermost_template(stack) and _is_inside(stack[-1].parts[-1], text, end))
    stack[-1].write(text[end:])
    _abandon(stack, 1)
    return "".join(stack[0].pieces()).replace(_EQUALS, "=")


def _is_inside(before: list[str], text: str, end: int) -> bool:
    """Whether a line has text around the template that ended at ``end``, the last piece of ``before``."""
    line = "".join(before[-4:-1]).rpartition("\n")[2].strip("*#:; \t")
    return bool(line) or text[end : end + 80].partition("\n")[0].strip() != ""


def _take(token: str, stack: list[_Open], link: Link | None, gone: str, language: str) -> str:
    """Process one token; return the name of the template it closes, if that shows nothing."""
    top = stack[-1]
    if token in ("{{", "[[") and len(stack) <= DEPTH:
        stack.append(_Open(token))
    elif token == "}}" and (position := _innermost_template(stack)):
        _abandon(stack, position + 1)
        return _close(stack, link is None, gone, language)
    elif token == "]]" and top.opener == "[[" and link:
        stack.pop()
        stack[-1].show(link(["".join(part) for part in top.parts]))
    elif token == "|" and top.opener:
        top.divide()
    else:
        if token == "=" and top.equals[-1] < 0:
            top.equals[-1] = len(top.parts[-1])
        top.write(token)
    return ""


def _innermost_template(stack: list[_Open]) -> int:
    """Its position in the stack (0 for none)."""
    return next((n for n in range(len(stack) - 1, 0, -1) if stack[n].opener == "{{"), 0)


def _end_of_paragraph(stack: list[_Open], heading: bool) -> None:
    """No link continues past an empty line, and nothing past a heading."""
    while len(stack) > 1 and (heading or stack[-1].opener == "[["):
        _abandon(stack, len(stack) - 1)


def _abandon(stack: list[_Open], keep: int) -> None:
    """Turn the brackets opened beyond the first ``keep`` back into text."""
    while len(stack) > keep:
        pieces = stack.pop().pieces()
        stack[-1].parts[-1] += pieces


def _close(stack: list[_Open], plain: bool, gone: str, language: str) -> str:
    """Replace the template on top of the stack by what it shows; return its name if that is nothing."""
    template = stack.pop()
    name = "".join(template.parts[0])
    if not plain and ("{" in name or "}" in name):
        # No title has braces: {{1}, {2}} is a set, and shown.
        _, *inside = template.pieces()
        stack[-1].parts[-1] += [OPEN * 2, *inside, CLOSE * 2]
        return ""
    if plain and not _is_template(name, template):
        stack[-1].parts[-1] += [*template.pieces(), "}}"]
        stack[-1].has_braces = True
        return ""
    text = shown(name, _arguments(template), language)
    stack[-1].show(gone if text is None else text)
    return template_name(name) if text is None else ""


def _is_template(name: str, template: _Open) -> bool:
    known = _PLAIN_NAME.match(name) or template_name(name) in TEMPLATES
    return bool(known) and not template.has_braces


def _arguments(template: _Open) -> Arguments:
    by_number: dict[str, str] = {}
    named: dict[str, str] = {}
    count = 0
    for part, equals in zip(template.parts[1:], template.equals[1:]):
        if equals < 0:
            count += 1
            by_number[str(count)] = "".join(part).strip()
            continue
        name, value = "".join(part[:equals]).strip(), "".join(part[equals + 1 :]).strip()
        (by_number if name.isdecimal() else named)[name] = value
    positional: list[str] = []
    while (number := str(len(positional) + 1)) in by_number:
        positional.append(by_number[number])
    return Arguments(positional, named)


def elements(text: str, names: Collection[str], show: Callable[[str, str], str]) -> str:
    """Replace each ``<name …>content</name>`` by ``show(name, content)``; ``<name/>`` has none.

    An opening without an end loses only its tag; so does one whose content would hold the opening
    of another element of its name, or a heading.
    """
    opening = _openings(frozenset(names))
    pieces: list[str] = []
    end, without_end = 0, set[str]()
    while tag := opening.search(text, end):
        name = tag[1].lower()
        pieces.append(text[end : tag.start()])
        end = tag.end()
        if tag[2]:
            pieces.append(show(name, ""))
        elif name not in without_end:
            closing = _closing(name).search(text, end)
            if closing is None:
                without_end.add(name)
            elif closing[0].startswith("</"):
                pieces.append(show(name, text[end : closing.start()]))
                end = closing.end()
    return "".join([*pieces, text[end:]])


@lru_cache(maxsize=8)
def _openings(names: frozenset[str]) -> re.Pattern[str]:
    return re.compile(rf"<({'|'.join(sorted(names))})\b[^<>]*?(/?)>", re.IGNORECASE)


@lru_cache(maxsize=64)
def _closing(name: str) -> re.Pattern[str]:
    """The element's end, or a sign that it has none."""
    return re.compile(rf"</{name}\s*>|<{name}\b[^<>]*(?<!/)>|\n==", re.IGNORECASE)
