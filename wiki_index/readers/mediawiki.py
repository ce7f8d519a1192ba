"""MediaWiki XML exports: ``pages-articles.xml.bz2``, multistream too, whole or in its parts.

Read with ``xml.etree``: mwxml wraps the same parser, adds five packages and no check that is needed
here. A multistream dump is a bzip2 file like any other; its index is not needed to read it whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import IO, NamedTuple
from xml.etree import ElementTree

from kaggle_rag.compressed import opened
from kaggle_rag.errors import InputError
from wiki_index.readers.base import Article, Reader, Skip
from wiki_index.rough import rough_wikitext
from wiki_index.site import Site, site
from wiki_index.wikitext import plain

_REDIRECT = re.compile(r"\s*#\w+\s*:?\s*\[\[")
_DISAMBIGUATION = re.compile(
    r"\{\{\s*(?:template:\s*)?(?:(?:[\w-]+ ){0,4}disambig(?:uation)?(?:[ -](?:page|cleanup))?|disamb|dab|"
    r"hndis|geodis|letterdisambig|numberdis|mathdab|mil-unit-dis|schooldis|callsigndis|begriffsklärung|homonymie|"
    r"desambiguación|desambiguação|disambigua|doorverwijspagina|неоднозначность|曖昧さ回避|消歧义|消歧義)"
    r"\s*(?:\||\}\})",
    re.IGNORECASE,
)


_NOWIKI = re.compile(r"<nowiki>[^<]*</nowiki>", re.IGNORECASE)


class Page(NamedTuple):
    """A page as the export holds it; ``text`` is wikitext."""

    id: str
    title: str
    namespace: str
    model: str
    is_redirect: bool
    text: str
    wiki: Site = site()


class MediaWiki(Reader):
    """A ``.xml`` export; of several revisions of a page, the last one counts."""

    def records(self) -> Iterator[Page]:
        last = ""
        with opened(self.path) as (file, share):
            try:
                for page in _pages(file):
                    self.share = share()
                    yield page
                    last = f", behind page {page.id} ({page.title})"
            except ElementTree.ParseError as error:
                line = error.position[0]
                is_cut = "no element found" in str(error)
                what = "the export ends before its last page does" if is_cut else f"broken XML ({error})"
                raise InputError(
                    what,
                    where=f"{self.path}, line {line:,}{last}",
                    expected="<mediawiki> … </mediawiki> as Special:Export or dumps.wikimedia.org write it",
                    cure="the download or copy may have been cut: fetch the file again, compare its checksum",
                ) from error

    def article(self, record: Page) -> Article | Skip:
        if record.is_redirect or _REDIRECT.match(record.text):
            return Skip("redirect")
        # Dumps of other wiki software, and some tools' pieces of a dump, name no namespace but in the title.
        if record.namespace not in ("0", "") or (
            not record.namespace and not record.wiki.is_article(record.title)
        ):
            return Skip("namespace")
        if record.model not in ("wikitext", ""):
            return Skip("not wikitext")
        if record.title.lower().endswith("(disambiguation)") or _DISAMBIGUATION.search(
            _NOWIKI.sub("", record.text)
        ):
            return Skip("disambiguation")
        left_out = Counter[str]()
        text = plain(record.text, record.wiki, left_out)
        return Article(record.id, record.title, text, is_rendered=True, left_out=left_out)

    def source(self, record: Page) -> str:
        return rough_wikitext(record.text)


def _pages(file: IO[bytes]) -> Iterator[Page]:
    events = ElementTree.iterparse(file, events=("start", "end"))
    root = next(events)[1]
    language = root.get("{http://www.w3.org/XML/1998/namespace}lang", "")
    wiki = site(language)
    for event, element in events:
        if event == "end" and _name(element) == "namespaces":
            names = ((name.get("key", ""), (name.text or "").strip()) for name in element)
            wiki = site(language, tuple(pair for pair in names if pair[1]))
        elif event == "end" and _name(element) == "page":
            yield _page(element, wiki)
            # Else the tree of a whole dump would gather here.
            root.clear()


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _page(element: ElementTree.Element, wiki: Site) -> Page:
    fields = {_name(child): child for child in element}
    revision = {_name(child): child for child in fields.get("revision", ())}

    def value(of: dict[str, ElementTree.Element], name: str) -> str:
        return (of[name].text or "") if name in of else ""

    return Page(
        value(fields, "id").strip(),
        value(fields, "title"),
        value(fields, "ns").strip(),
        value(revision, "model").strip(),
        "redirect" in fields,
        value(revision, "text"),
        wiki,
    )
