"""HTML of a Wikipedia page to plain text, with the standard library's parser.

It reads what Kiwix writes: well-formed pages by MediaWiki's own parsers. Running text is kept;
boxes, references, edit links and pictures are dropped; formulae are taken from the TeX next to them.
"""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

from kaggle_rag.text.mathematics import tex_to_text
from kaggle_rag.text.template_parts import raised, scripted
from wiki_index.markup.lone_formulae import ALONE, joined
from wiki_index.markup.wikitables import Cell, WikiTable

_VOID = {
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
}  # fmt: skip
_HIDDEN = {
    "script", "style", "noscript", "template", "nav", "form", "button", "figure", "figcaption", "audio",
    "video", "svg", "select", "title", "h1", "footer", "object",
}  # fmt: skip
_HIDDEN_CLASSES = {
    "infobox", "navbox", "vertical-navbox", "sidebar", "metadata", "ambox", "reference", "references",
    "reflist", "mw-references-wrap", "refbegin", "mw-editsection", "hatnote", "noprint", "toc", "thumb",
    "gallery", "gallerybox", "catlinks", "mw-empty-elt", "navbar", "IPA", "sistersitebox", "printfooter",
    "noexcerpt", "Template-Fact",
}  # fmt: skip
_BLOCKS = {
    "p", "div", "li", "ul", "ol", "dl", "dt", "dd", "blockquote", "section", "tr", "caption", "hr", "pre",
    "center", "details", "summary", "table", "h2", "h3", "h4", "h5", "h6",
}  # fmt: skip
_HEADINGS = {f"h{level}": "=" * level for level in range(2, 7)}
_INVISIBLE = re.compile(r"display:\s*none|visibility:\s*hidden", re.IGNORECASE)
_CELLS = {"td", "th", "caption"}
# Elements whose text is collected as a whole before it is added to the surrounding text.
_GATHERED = {"sup", "sub", *_CELLS, *_HEADINGS}
# The element around a formula, that around an ion's charge and count, and what is put before each of them.
_FORMULA, _ION, _ABOVE = "mwe-math-element", "template-chem2-su", "\x1f"
# Around the text of a formula, until its line is known; a page holds no such characters.
_TEX, _STOP = "\x0e", "\x02"
# Before an item of a list and the line of a table, which are no part of the sentence before them.
_ITEM = "\x03"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")
_LONE_FORMULA = re.compile(rf"(?:{_TEX}[^{_STOP}]*{_STOP}[ ,.;]*)+")
# Those characters, and the spaces around them where a bracket or a stop is next.
_BESIDE = re.compile(rf"(?<=[(\[]) {_TEX}|{_TEX}|{_ITEM}|{_STOP} (?=[,.;:)\]])|{_STOP}")
# How many unclosed elements an end tag may close.
_REACH = 60


def plain(page: str, left_out: Counter[str] | None = None) -> str:
    """The plain text of a page; paragraphs, list items and table rows as lines, headings marked.

    ``left_out`` counts the elements that are not prose, by tag or class: ``<figure>``, ``.infobox``.
    """
    parser = _Page(Counter() if left_out is None else left_out)
    parser.feed(_CONTROL.sub("", page))
    parser.close()
    return "\n".join(joined(_line(line) for line in parser.text().split("\n")))


def _line(line: str) -> str:
    line = " ".join(line.split())
    alone = ALONE if _LONE_FORMULA.fullmatch(line) else ""
    return alone + " ".join(_BESIDE.sub("", line).split())


class _Element:
    """An open element; ``is_dropped``: what is in it is no prose, even a formula."""

    def __init__(
        self, tag: str, attributes: dict[str, str], *, is_hidden: bool, is_dropped: bool
    ) -> None:
        self.tag, self.attributes = tag, attributes
        self.is_hidden, self.is_dropped = is_hidden, is_dropped
        self.classes = attributes.get("class", "").split()


class _Page(HTMLParser):
    def __init__(self, left_out: Counter[str]) -> None:
        super().__init__(convert_charrefs=True)
        self._left_out = left_out
        self._open: list[_Element] = []
        self._hidden = 0
        self._texts: list[list[str]] = [[]]
        self._tables: list[WikiTable] = []
        # For each open cell, the lines of the tables inside it.
        self._beneath: list[list[str]] = []
        # A formula appears twice: as MathML and as a picture.
        self._has_formula = False

    def text(self) -> str:
        while self._open:
            self._close(self._open.pop())
        return "".join(self._texts[0])

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._write(data)

    def _write(self, text: str) -> None:
        if text:
            self._texts[-1].append(text)

    def _before(self) -> str:
        """The last characters that were written."""
        return "".join(self._texts[-1][-4:])[-4:]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        classes = attributes.get("class", "").split()
        self._formula(tag, classes, attributes)
        if tag in _BLOCKS and not self._hidden:
            self._write(f"\n{_ITEM}" if tag == "li" else "\n")
        if tag in _VOID:
            if tag == "br" and not self._hidden:
                self._write(" ")
            return
        by_class = next((f".{name}" for name in classes if name in _HIDDEN_CLASSES), "")
        dropped = by_class or (f"<{tag}>" if tag in _HIDDEN else "")
        if dropped and not self._hidden:
            self._left_out[dropped] += 1
        # The formula was taken from its alternative text; the page does not show the rest.
        is_hidden = bool(dropped) or tag == "math" or bool(_INVISIBLE.search(attributes.get("style", "")))
        if tag in ("p", "li") and self._open and self._open[-1].tag == tag:
            self._close(self._open.pop())
        # Of an ion the charge comes first, above its count.
        if self._open and _ION in self._open[-1].classes and not self._hidden:
            self._write(_ABOVE)
        if "frac" in classes and self._before()[-1:].isdigit() and not self._hidden:
            self._write(" ")
        self._begin(_Element(tag, attributes, is_hidden=is_hidden, is_dropped=bool(dropped)))

    def _formula(self, tag: str, classes: list[str], attributes: dict[str, str]) -> None:
        """Write a formula once; its MathML may be in a hidden span next to its picture."""
        if _FORMULA in classes:
            self._has_formula = False
        if any(element.is_dropped for element in self._open):
            return
        is_picture = tag == "img" and any(name.startswith("mwe-math-fallback") for name in classes)
        tex = attributes.get("alttext" if tag == "math" else "alt", "")
        if tex and (tag == "math" or (is_picture and not self._has_formula)):
            # A picture by itself says nothing of the next one.
            self._has_formula = any(_FORMULA in element.classes for element in self._open)
            self._write(f" {_TEX}{tex_to_text(tex)}{_STOP} ")

    def _begin(self, element: _Element) -> None:
        self._open.append(element)
        self._hidden += element.is_hidden
        if self._hidden:
            return
        if self._is_gathered(element):
            self._texts.append([])
        if element.tag in _CELLS:
            self._beneath.append([])
        if element.tag == "table":
            self._tables.append(WikiTable())
        elif element.tag == "tr" and self._tables:
            self._tables[-1].rows.append([])

    def _is_gathered(self, element: _Element) -> bool:
        return element.tag in _GATHERED or _ION in element.classes

    def handle_endtag(self, tag: str) -> None:
        if not any(element.tag == tag for element in self._open[-_REACH:]):
            return
        while True:
            element = self._open.pop()
            self._close(element)
            if element.tag == tag:
                return

    def _close(self, element: _Element) -> None:
        """Move the text that an element collected to where it belongs."""
        if self._hidden:
            self._hidden -= element.is_hidden
            return
        tag = element.tag
        content = "".join(self._texts.pop()) if self._is_gathered(element) else ""
        if _ION in element.classes:
            charge, _, count = content.lstrip(_ABOVE).partition(_ABOVE)
            content = f"{count}{raised(charge)}"
        if tag == "table" and self._tables:
            lines = list(self._tables.pop().lines())
            if self._beneath:
                self._beneath[-1] += lines
            else:
                self._write("".join(f"\n{_ITEM}{line}\n" for line in lines))
        elif tag in _CELLS:
            self._end_cell(element, content)
        elif tag in ("sup", "sub"):
            content = content.replace(_TEX, "").replace(_STOP, "")
            self._write(scripted(content, "^" if tag == "sup" else "_", self._before()))
        elif tag in _HEADINGS:
            self._write(f"\n{_HEADINGS[tag]} {' '.join(content.split())} {_HEADINGS[tag]}\n")
        else:
            self._write(content + ("\n" if tag in _BLOCKS else ""))

    def _end_cell(self, element: _Element, content: str) -> None:
        cell = _cell(element, content)
        cell.beneath = self._beneath.pop()
        if not self._tables:
            self._write(content)
            return
        rows = self._tables[-1].rows
        rows[-1].append(cell)
        if element.tag == "caption":
            rows.append([])


def _cell(element: _Element, content: str) -> Cell:
    def span(name: str) -> int:
        value = element.attributes.get(name, "")
        return int(value) if re.fullmatch(r"\d{1,3}", value, re.ASCII) else 1

    return Cell(" ".join(content.split()), element.tag == "th", span("colspan"), span("rowspan"))
