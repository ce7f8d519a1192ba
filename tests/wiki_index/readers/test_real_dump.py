"""The real MediaWiki export: what becomes of its pages, against an independent parser."""

import bz2
import re
from collections import Counter

import mwparserfromhell
import pytest

from kaggle_rag.text.cleaning import paragraphs
from wiki_index.corpus import Article, Corpus


@pytest.fixture(scope="module")
def real(shared):
    return Corpus.open(shared / "wiki_xml")


@pytest.fixture(scope="module")
def articles(real):
    return {a.title: a for a in real.articles()}


def test_the_real_export_has_106_pages_behind_its_redirects(real, shared):
    found = [page.article() for page in real.pages()]
    assert Counter(getattr(item, "reason", "article") for item in found) == {
        "redirect": 100, "disambiguation": 8, "article": 98,
    }  # fmt: skip
    with bz2.open(
        shared / "wiki_xml/enwiki-pages-articles1-shortened.xml.bz2", "rt", encoding="utf-8"
    ) as file:
        raw = file.read()
    names = re.findall(r"<title>(.*?)</title>\s*<ns>0</ns>\s*<id>(\d+)</id>(?!\s*<redirect)", raw)
    assert len(names) == 106
    assert {(a.title, a.id) for a in found if isinstance(a, Article)} <= set(names)


@pytest.mark.parametrize(
    "title, sentence",
    [
        ("Albedo", "its planetary albedo, is 30 to 35% because of cloud cover"),
        ("Albedo", "Surface: Fresh asphalt; Typical albedo: 0.04"),
        ("Ampere", "approximately equivalent to 6.2415093×10^18 elementary charges"),
        ("Ampere", "force of 2 × 10^−7 newtons per metre of length"),
        ("Alkane", "with 5 carbon atoms just like pentane (C5H12)"),
        ("Alkane", "cyclic (general formula CnH2n, n > 2)"),
        ("Acid", "K_a = ([H^+] [A^-])/([HA])"),
        ("Analysis of variance", "y_{i,j}=y_i+t_j"),
        ("Alaska", "Community name: Anchorage; Type: City; 2010 Pop: 291,826"),
        ("Atomic number", "the symbol Z"),
        ("Ayn Rand", "on February 2, 1905"),
    ],
)
def test_facts_of_real_pages_reach_the_paragraphs(title, sentence, articles):
    assert sentence in " ".join(paragraphs(articles[title].text))


def test_no_markup_is_left_in_real_pages(articles):
    for article in articles.values():
        left = re.findall(r"\{\{|\}\}|\[\[|\]\]|^\{\||^\|\}|<ref|</|'''|&nbsp;|\x04", article.text)
        assert left == [] or article.title == "ASCII" or set(left) <= {"}}"}


def eights(text):
    words = re.findall(r"\w+", text)
    return {tuple(words[i : i + 8]) for i in range(len(words) - 7)}


def prose_by_mwparserfromhell(wikitext):
    """Runs of prose between templates, tags and tables, by an independent parser."""
    code = mwparserfromhell.parse(wikitext)
    for node in code.filter_tags(
        matches=lambda n: n.tag in ("ref", "math", "gallery", "sub", "sup", "table")
    ):
        if code.contains(node):
            code.replace(node, "" if node.tag == "ref" else " ⁂ ")
    for node in code.filter_templates():
        if code.contains(node):
            code.replace(node, " ⁂ ")
    for node in code.filter_wikilinks(matches=r"^\[\[(?i:file|image|category):"):
        if code.contains(node):
            code.remove(node)
    return re.split("[\n⁂]", str(code.strip_code()))


@pytest.mark.parametrize("title", ["Aardwolf", "Alchemy", "Aldous Huxley", "Algorithm", "Altruism"])
def test_the_prose_agrees_with_an_independent_parser(title, real, articles):
    wikitext = next(page.record.text for page in real.pages() if page.record.title == title)
    theirs = set().union(*map(eights, prose_by_mwparserfromhell(wikitext)))
    ours = eights(articles[title].text)
    assert len(theirs) > 1000 and len(theirs - ours) < 0.002 * len(theirs)
