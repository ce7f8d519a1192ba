"""Every format gives the same articles; every kind of damage is one message that says where."""

import bz2
import csv
import gzip
import json
import tracemalloc
from collections import Counter
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_rag.data.tables import read_rows
from kaggle_rag.runtime.errors import InputError
from wiki_index.corpus import Article, Corpus, Skip

HEAD, TAIL = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/"><siteinfo/>\n', "</mediawiki>\n"


def page(number, title, text, ns=0, extra="", model="wikitext"):
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f"<page>\n<title>{title}</title>\n<ns>{ns}</ns>\n<id>{number}</id>{extra}\n<revision><id>9</id>"
        f"<model>{model}</model><text bytes='1'>{text}</text></revision>\n</page>\n"
    )


ARTICLES = [
    Article("12", "Iron", "Iron is a metal. It melts at 1811 K."),
    Article("25", "Gold", "Gold weighs 19.3 g/cm^3."),
    Article("39", "Ampère", "He was born in 1775."),
]
WIKITEXT = [
    "'''Iron''' is a [[metal]].<ref>Smith 1999</ref> It melts at {{convert|1811|K}}.",
    "{{Infobox|5}}\nGold weighs 19.3 g/cm<sup>3</sup>.",
    "He was born in 1775.\n[[Category:People]]",
]
PAGES = [page(a.id, a.title, text) for a, text in zip(ARTICLES, WIKITEXT)]
OTHERS = [
    page(1, "Fe", "#REDIRECT [[Iron]]", extra='<redirect title="Iron"/>'),
    page(2, "Au", "#WEITERLEITUNG [[Gold]]"),
    page(3, "Mercury", "'''Mercury''' may be:\n* [[Mercury (planet)]]\n{{Disambiguation|geo}}"),
    page(4, "Talk:Iron", "Is it a metal?", ns=1),
    page(5, "Ore.js", "var a = 5", model="javascript"),
]
XML = HEAD + "".join(OTHERS + PAGES) + TAIL


def multistream(*parts):
    return b"".join(bz2.compress(part.encode()) for part in parts)


def cirrus(rows):
    lines = []
    for key, fields in rows:
        lines += [json.dumps({"index": {"_type": "_doc", "_id": key}}), json.dumps(fields)]
    return "\n".join(lines) + "\n"


CIRRUS = cirrus(
    [
        ("3", {"title": "Hg", "text": "may be", "namespace": 0, "template": ["Template:Disambiguation"]}),
        ("4", {"title": "Iron", "text": "Is it?", "namespace": 1}),
        *((a.id, {"title": a.title, "text": a.text, "namespace": 0, "template": ["Template:Short"]})
          for a in ARTICLES),
    ]
)  # fmt: skip
COLUMNS = Article._fields[:3]
ROWS = [dict(zip(COLUMNS, article)) for article in ARTICLES]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)


def write(path, content):
    data = content if isinstance(content, bytes) else content.encode()
    squeeze = (
        {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix) if isinstance(content, str) else None
    )
    path.write_bytes(squeeze(data) if squeeze else data)
    return path


def texts(corpus):
    """The articles, without what the formats differ in: whether they are pages, and what those left out."""
    return [Article(*article[:3]) for article in corpus.articles()]


def csv_text():
    class Lines(list):
        write = list.append

    lines = Lines()
    csv.writer(lines).writerows([COLUMNS, *(row.values() for row in ROWS)])
    return "".join(lines)


@pytest.mark.parametrize(
    "name, content",
    [
        ("enwiki-pages-articles.xml", XML),
        ("enwiki-pages-articles.xml.bz2", XML),
        ("enwiki-pages-articles.xml.gz", XML),
        ("enwiki-pages-articles-multistream.xml.bz2", multistream(HEAD, *OTHERS, *PAGES, TAIL)),
        ("enwiki-pages-articles-multistream1.xml-p1p39.bz2", multistream(HEAD, "".join(PAGES), TAIL)),
        ("enwiki-cirrussearch-content.json.gz", CIRRUS),
        ("enwiki-cirrussearch-content.json", CIRRUS),
        ("a.json", JSONL),
        ("a.jsonl.gz", JSONL),
        ("a.jsonl.bz2", JSONL),
        ("a.csv.gz", csv_text()),
    ],
)
def test_every_format_gives_the_same_articles(name, content, tmp_path):
    path = write(tmp_path / name, content)
    for corpus in (Corpus.open(path), Corpus.open(tmp_path)):
        assert texts(corpus) == ARTICLES


def test_what_is_no_article_is_named_by_its_reason(tmp_path):
    for name, content, reasons in [
        ("a.xml", XML, {"redirect": 2, "disambiguation": 1, "namespace": 1, "not wikitext": 1}),
        ("b.json", CIRRUS, {"disambiguation": 1, "namespace": 1}),
    ]:
        found = [page.article() for page in Corpus.open(write(tmp_path / name, content)).pages()]
        assert Counter(item.reason for item in found if isinstance(item, Skip)) == reasons


@pytest.mark.parametrize(
    "text, is_one",
    [
        ("{{disambig}}", True),
        ("{{Human name disambiguation}}", True),
        ("{{Aimai}}", True),
        ("{{ujednoznacznienie}}", True),
        ("<!-- not a {{disambig}} page -->Iron.", False),
        ("It is written <code>{{dab}}</code>.", False),
        ("#First [[step]] is iron.", False),
        ("x {{hndis|Smith}}", True),
        ("{{Redirect|Fe|the other|Fe (disambiguation)}} Iron.", False),
        ("Iron{{disambiguation needed|date=May 2020}} melts.", False),
        ("{{About||x|Iron (disambiguation)}}", False),
    ],
)
def test_a_disambiguation_is_told_by_its_template_alone(text, is_one, tmp_path):
    path = write(tmp_path / "a.xml", HEAD + page(7, "Iron", text) + TAIL)
    found = [page.article() for page in Corpus.open(path).pages()]
    assert (found == [Skip("disambiguation")]) is is_one


def test_of_several_revisions_the_last_counts(tmp_path):
    both = page(7, "Iron", "New.").replace("<revision>", "<revision><text>Old.</text></revision><revision>")
    assert next(Corpus.open(write(tmp_path / "a.xml", HEAD + both + TAIL)).articles()).text == "New."


# Damage.


def read(path):
    """What a corpus gives before it raises, and what it raises."""
    articles = []
    with pytest.raises(InputError) as raised:
        articles.extend(Article(*article[:3]) for article in Corpus.open(path).articles())
    assert str(raised.value).count(str(path.name)) == 1 and raised.value.cure
    return articles, str(raised.value)


@settings(max_examples=60)
@given(data=st.data())
def test_a_file_cut_anywhere_raises_behind_whole_articles(data, tmp_path):
    name, content = data.draw(st.sampled_from([
        ("a.xml", XML.encode()), ("a.xml.bz2", bz2.compress(XML.encode())),
        ("a.xml.gz", gzip.compress(XML.encode())), ("b.xml.bz2", multistream(HEAD, *OTHERS, *PAGES, TAIL)),
        ("c.jsonl.gz", gzip.compress(JSONL.encode())),
        ("c.jsonl.bz2", bz2.compress(JSONL.encode())), ("d.json.gz", gzip.compress(CIRRUS.encode())),
    ]))  # fmt: skip
    cut = data.draw(st.integers(1, len(content) - len(TAIL) - 1 if name == "a.xml" else len(content) - 1))
    if content[cut:].strip():
        articles, _ = read(write(tmp_path / name, content[:cut]))
        assert articles == ARTICLES[: len(articles)]


def test_a_dump_cut_between_two_streams_is_not_taken_for_a_whole_one(tmp_path):
    articles, said = read(write(tmp_path / "a.xml.bz2", multistream(HEAD, *PAGES[:2])))
    assert articles == ARTICLES[:2] and "before its last page" in said and "page 25 (Gold)" in said


def test_damage_at_the_start_of_a_stream_is_not_taken_for_its_end(tmp_path):
    """bz2.open ends there without a word."""
    whole = [bz2.compress(line.encode()) for line in JSONL.splitlines(keepends=True)]
    path = write(tmp_path / "a.jsonl.bz2", b"".join([*whole[:2], b"XX" + whole[2][2:]]))
    with bz2.open(path) as file:
        assert len(file.read().splitlines()) == 2
    articles, said = read(path)
    assert articles == ARTICLES[:2] and "damaged" in said


@pytest.mark.parametrize("place", [30, 60, 100])
@pytest.mark.parametrize("name", ["a.xml.gz", "a.xml.bz2"])
def test_a_flipped_byte_in_the_middle_is_named_with_its_place(name, place, tmp_path):
    data = bytearray(write(tmp_path / name, XML).read_bytes())
    data[len(data) * place // 120] ^= 0xFF
    _, said = read(write(tmp_path / name, bytes(data)))
    assert "near byte" in said or "line" in said


def test_broken_xml_in_the_middle_names_the_line_and_the_page_before(tmp_path):
    broken = HEAD + PAGES[0] + PAGES[1].replace("</title>", "</titel>") + PAGES[2] + TAIL
    articles, said = read(write(tmp_path / "a.xml", broken))
    assert articles == ARTICLES[:1]
    assert "page 12 (Iron)" in said and "line 9" in said and "mismatched tag" in said


@pytest.mark.parametrize(
    "lines, said",
    [
        ("1 3", "two index lines"),
        ("1 2 2", "without its index line"),
        ("1 2 1", "ends before page 7"),
        ("1 2 bad", "not JSON"),
        ("1 2 list", "holds a list"),
    ],
)
def test_a_cirrus_dump_out_of_step_names_the_line(lines, said, tmp_path):
    known = {"1": '{"index": {"_id": "7"}}', "2": '{"title": "a", "text": "b"}',
             "3": '{"index": {"_id": "8"}}', "bad": '{"index', "list": "[1]"}  # fmt: skip
    path = write(tmp_path / "a.json", "\n".join(known[key] for key in lines.split()) + "\n")
    _, message = read(path)
    assert said in message and f"line {len(lines.split())}" in message


@pytest.mark.parametrize("name", ["a.xml", "a.json", "a.zim.gz", "a.parquet.bz2", "a.docx"])
def test_a_file_of_no_known_format_says_which_are_known(name, tmp_path):
    path = write(tmp_path / name, b'{"default": {"description": 5}}')
    with pytest.raises(InputError, match=r"\.xml.*\.zim"):
        Corpus.open(path)
    with pytest.raises(InputError, match="holds no corpus"):
        Corpus.open(tmp_path)


def test_files_beside_a_corpus_that_are_none_are_passed_over(tmp_path):
    write(tmp_path / "a.jsonl", JSONL)
    write(tmp_path / "dataset_infos.json", '{"default": {"description": "title text"}}')
    write(tmp_path / "README.txt", "Read me.")
    write(tmp_path / "sitemap.xml", "<urlset/>")
    assert texts(Corpus.open(tmp_path)) == ARTICLES


# Parts.


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("missing", [None, 0, 3, 4])
def test_a_shard_that_is_missing_from_a_folder_is_named(first, missing, tmp_path):
    for number in range(5):
        if number != missing:
            table = pa.Table.from_pylist([{"title": f"T{number}", "text": "x"}])
            pq.write_table(table, tmp_path / f"train-{number + first:05d}-of-00005.parquet")
    if missing is None:
        assert [a.title for a in Corpus.open(tmp_path).articles()] == [f"T{n}" for n in range(5)]
        return
    with pytest.raises(InputError, match="1 of 5 shards") as raised:
        Corpus.open(tmp_path)
    # Which count it is cannot be known when the first or the last is missing.
    assert missing in (0, 4) or f"{missing + first:05d}" in str(raised.value)


def test_parts_of_a_dump_stand_in_the_order_of_their_pages_and_a_gap_is_named(tmp_path):
    ranges = [(1, 12), (13, 25), (26, 39)]
    paths = [
        write(
            tmp_path / f"enwiki-pages-articles-multistream{part}.xml-p{a}p{b}.bz2",
            multistream(HEAD + text + TAIL),
        )
        for part, (a, b), text in zip((2, 9, 10), ranges, PAGES)
    ]
    write(tmp_path / "enwiki-pages-articles-multistream-index10.txt-p26p39.bz2", b"not read")
    assert texts(Corpus.open(tmp_path)) == ARTICLES
    paths[1].unlink()
    with pytest.raises(InputError, match="pages 13 to 25"):
        Corpus.open(tmp_path)


def test_compressed_tables_are_read_by_every_stage(tmp_path):
    assert list(read_rows(write(tmp_path / "a.csv.gz", csv_text()))) == ROWS


# Memory.


def test_memory_does_not_grow_with_the_dump(tmp_path):
    peaks = []
    for pages in (1_000, 3_000):
        text = "".join(page(n, f"T{n}", WIKITEXT[0] + " word" * 300) for n in range(1, pages))
        corpus = Corpus.open(write(tmp_path / f"{pages}.xml.bz2", HEAD + text + TAIL))
        tracemalloc.start()
        assert sum(1 for _ in corpus.articles()) == pages - 1
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000


def test_reading_can_stop_in_the_middle(tmp_path):
    path = write(tmp_path / "a.xml.bz2", XML)
    assert [a.title for a in islice(Corpus.open(path).articles(), 2)] == ["Iron", "Gold"]


def test_progress_ends_at_the_size_of_the_corpus(tmp_path):
    for name, content in (("a.xml.gz", XML), ("b.jsonl", JSONL), ("c.json", CIRRUS)):
        write(tmp_path / name, content)
    corpus, heard = Corpus.open(tmp_path), []
    assert len(list(corpus.pages(heard.append))) == 8 + 3 + 5
    assert sum(heard) == corpus.size and min(heard) >= 0
