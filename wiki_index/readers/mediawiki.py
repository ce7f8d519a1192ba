"""MediaWiki XML exports: ``pages-articles.xml.bz2``, multistream too, whole or in parts.

Read with ``xml.etree``: mwxml wraps the same parser and adds five packages, but no check that is needed
here. A multistream dump is a bzip2 file like any other; its index is not needed to read it whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple
from xml.etree import ElementTree

from kaggle_rag.data.compressed import opened
from kaggle_rag.data.texts import encoding_of, not_text, not_utf8
from kaggle_rag.runtime.errors import InputError
from wiki_index.markup.reference_text import rough_wikitext
from wiki_index.markup.site import Site, site
from wiki_index.markup.wikitext import plain
from wiki_index.readers.base import Article, Reader, Skip

# The magic word in the languages of large wikis: a list may begin with another word and a link.
_REDIRECT = re.compile(
    r"\s*#(?:redirect(?:ion)?|weiterleitung|redirección|redireccion|redirecionamento|rinvia|doorverwijzing|"
    r"перенаправление|перенапр|перенаправлення|patrz|przekieruj|tam|omdirigering|ohjaus|uudelleenohjaus|"
    r"yönlendir(?:me)?|přesměruj|átirányítás|đổi|alih|omdiriger|преусмери|пренасочване|presmeruj|"
    r"转向|重定向|重新導向|転送|リダイレクト|넘겨주기|تحويل|تغییر_?مسیر|הפניה|पुनर्प्रेषित|เปลี่ยนทาง)\s*:?\s*\[\[",
    re.IGNORECASE,
)
_DISAMBIGUATION = re.compile(
    r"\{\{\s*(?:template:\s*)?(?:(?:[\w-]+ ){0,4}disambig(?:uation)?(?:[ -](?:page|cleanup))?|disamb|dab|"
    r"hndis|geodis|letterdisambig|numberdis|mathdab|mil-unit-dis|schooldis|callsigndis|begriffsklärung|homonymie|"
    r"desambiguación|desambiguação|desambig|disambigua|doorverwijspagina|ujednoznacznienie|förgrening|gaffel|"
    r"rozcestník|egyért|неоднозначность|неоднозначність|aimai|曖昧さ回避|消歧义|消歧義|동음이의)"
    r"\s*(?:\||\}\})",
    re.IGNORECASE,
)
_HEAD = 200
_ENCODING = re.compile(rb"\s*<\?xml\b[^>]{0,80}?\bencoding\s*=\s*[\"']([\w.-]{1,40})[\"']")
# What only names a template, or hides it.
_NOT_READ = re.compile(
    r"<!--.*?-->|<(nowiki|code|pre|syntaxhighlight|source)\b[^<>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL
)


class MediaWikiPage(NamedTuple):
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

    def records(self) -> Iterator[MediaWikiPage]:
        encoding = _declared(self.path)
        if not _is_known(encoding):
            raise not_text(self.path, f"XML in {encoding} cannot be read", encoding)
        last = ""
        with opened(self.path) as (file, share):
            try:
                for page in _pages(file):
                    self.share = share()
                    yield page
                    last = f", after page {page.id} ({page.title})"
            except ElementTree.ParseError as error:
                line = error.position[0]
                # For bytes that are not UTF-8, the parser only says that they are not XML.
                if encoding == "utf-8" and (fault := not_utf8(self.path, lines=line)):
                    raise fault from error
                is_cut = "no element found" in str(error)
                what = "the export ends before its last page does" if is_cut else f"broken XML ({error})"
                raise InputError(
                    what,
                    where=f"{self.path}, line {line:,}{last}",
                    expected="<mediawiki> … </mediawiki> as Special:Export or dumps.wikimedia.org write it",
                    cure="the download or copy may be truncated: fetch the file again, compare its checksum",
                ) from error

    def article(self, record: MediaWikiPage) -> Article | Skip:
        if record.is_redirect or _REDIRECT.match(record.text):
            return Skip("redirect")
        # Dumps of other wiki software, and pieces cut by some tools, give the namespace only in the title.
        if record.namespace not in ("0", "") or (
            not record.namespace and not record.wiki.is_article(record.title)
        ):
            return Skip("namespace")
        if record.model not in ("wikitext", ""):
            return Skip("not wikitext")
        if record.title.lower().endswith("(disambiguation)") or _DISAMBIGUATION.search(
            _NOT_READ.sub("", record.text)
        ):
            return Skip("disambiguation")
        left_out = Counter[str]()
        text = plain(record.text, record.wiki, left_out)
        return Article(record.id, record.title, text, is_rendered=True, left_out=left_out)

    def source(self, record: MediaWikiPage) -> str:
        return rough_wikitext(record.text)


def _declared(path: Path) -> str:
    """The encoding by the byte order mark, by ``<?xml … encoding="…"?>``, or else the default."""
    with opened(path) as (file, _):
        head = file.read(_HEAD)
    marked = encoding_of(path, head[:4])
    declared = _ENCODING.match(head) if marked == "utf-8" else None
    return declared[1].decode().lower() if declared else marked.removesuffix("-sig")


def _is_known(encoding: str) -> bool:
    """Whether the parser reads it: UTF-8, UTF-16, or one byte per character."""
    try:
        return encoding.startswith("utf-") or len(bytes(range(256)).decode(encoding, "replace")) == 256
    except LookupError:
        return False


def _pages(file: IO[bytes]) -> Iterator[MediaWikiPage]:
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
            # Otherwise the tree of a whole dump would accumulate here.
            root.clear()


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _page(element: ElementTree.Element, wiki: Site) -> MediaWikiPage:
    fields = {_name(child): child for child in element}
    revision = {_name(child): child for child in fields.get("revision", ())}

    def value(of: dict[str, ElementTree.Element], name: str) -> str:
        return (of[name].text or "") if name in of else ""

    return MediaWikiPage(
        value(fields, "id").strip(),
        value(fields, "title"),
        value(fields, "ns").strip(),
        value(revision, "model").strip(),
        "redirect" in fields,
        value(revision, "text"),
        wiki,
    )
