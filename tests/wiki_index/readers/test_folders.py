"""What of a folder is a corpus: nothing hidden or twice, no part missing, every schema checked first."""

import bz2
import gzip
import json
import shutil
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_readers import ARTICLES, HEAD, JSONL, PAGES, TAIL, XML, texts
from test_zim import zim  # noqa: F401

from kaggle_rag.runtime.errors import InputError
from wiki_index.__main__ import main
from wiki_index.corpus import Article, Corpus
from wiki_index.readers.folders import visible

IRON = Article("0", "Iron", "Iron is a metal.")


def row(title="Iron", text="Iron is a metal."):
    return json.dumps({"title": title, "text": text}) + "\n"


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.jsonl", "._a.jsonl", "__MACOSX/a.jsonl", "sub/__MACOSX/._a.jsonl", ".git/x.csv",
        ".ipynb_checkpoints/a.jsonl", "desktop.ini", "sub/Thumbs.db", ".DS_Store", "$RECYCLE.BIN/a.jsonl",
    ],
)  # fmt: skip
def test_hidden_files_and_what_archivers_leave_are_no_part_of_a_corpus(name, tmp_path):
    put(tmp_path / "a.jsonl", row())
    put(tmp_path / name, b"\0\x05\x16\x07 resource fork")
    found = Corpus.open(tmp_path)
    assert list(found.articles()) == [IRON] and not found.aside


def test_a_corpus_inside_a_hidden_folder_is_read_when_it_is_named(tmp_path):
    put(tmp_path / ".cache/corpus/a.jsonl", row())
    assert list(Corpus.open(tmp_path / ".cache/corpus").articles()) == [IRON]


@pytest.mark.parametrize(
    "one, other",
    [
        ("a.jsonl", "a.jsonl.gz"),
        ("sub/a.csv.bz2", "sub/a.csv.gz"),
        ("a.txt", "a.txt.gz"),
        ("wiki.xml", "wiki.xml.bz2"),
        ("enwiki-pages-articles.xml.bz2", "enwiki-pages-articles-multistream.xml.bz2"),
        ("enwiki-pages-articles.xml.bz2", "enwiki-pages-articles1.xml-p1p39.bz2"),
    ],
)
def test_one_corpus_in_two_files_is_refused_by_their_names(one, other, tmp_path):
    content = {"jsonl": row(), "csv": "title,text\nIron,x\n", "txt": "Iron."}
    for name in (one, other):
        plain = next((text for ending, text in content.items() if f".{ending}" in name), XML).encode()
        squeeze = {"gz": gzip.compress, "bz2": bz2.compress}.get(name.rpartition(".")[2], bytes)
        put(tmp_path / name, squeeze(plain))
    with pytest.raises(InputError, match="hold the same articles") as raised:
        Corpus.open(tmp_path)
    assert one.rpartition("/")[2] in str(raised.value) and other.rpartition("/")[2] in str(raised.value)
    assert Corpus.open(tmp_path / one).files == (tmp_path / one,)


def test_files_of_one_name_in_two_folders_or_formats_are_two_files(tmp_path):
    for name in ("a/x.jsonl", "b/x.jsonl", "x.csv"):
        put(tmp_path / name, "title,text\nIron,x y\n" if name.endswith("csv") else row())
    assert len(list(Corpus.open(tmp_path).articles())) == 3


def tables(folder):
    for name in ("a", "b"):
        columns = {"id": [name], "title": [name], "text": [f"{name} is a thing."]}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    pq.write_table(pa.table({"id": ["a"], "file": ["a.parquet"]}), folder / "z_index.parquet")


def test_every_schema_is_checked_before_anything_is_split_and_others_are_passed_over_on_demand(tmp_path):
    tables(tmp_path)
    put(tmp_path / "meta.csv", "file,bytes\na,5\n")
    with pytest.raises(InputError, match="2 of 4 files hold no articles") as raised:
        Corpus.open(tmp_path)
    said = str(raised.value)
    assert "z_index.parquet" in said and "meta.csv" in said and "--skip-others" in said
    found = Corpus.open(tmp_path, skip_others=True)
    assert [article.id for article in found.articles()] == ["a", "b"]
    assert sorted(path.name for path in found.aside) == ["meta.csv", "z_index.parquet"]


def test_a_folder_of_nothing_but_other_tables_is_refused_with_the_flag_too(tmp_path):
    put(tmp_path / "a.csv", "name,body\nIron,x\n")
    with pytest.raises(InputError, match=r"'title' is missing.*name, body") as raised:
        Corpus.open(tmp_path, skip_others=True)
    assert "did you mean 'name'?" in str(raised.value)


def test_the_command_passes_others_over_and_says_which(tmp_path, monkeypatch, capsys):
    tables(tmp_path)
    monkeypatch.setattr(sys, "argv", ["wiki_index", "check", "--corpus", str(tmp_path), "--skip-others"])
    assert main() == 0
    out, err = capsys.readouterr()
    assert "2 articles" in out
    assert "1 file(s) next to the articles are not read, such as z_index.parquet" in err


@pytest.mark.parametrize(
    "names, missing",
    [
        ("part1 part2 part4 part5", ["part3"]),
        ("x_00 x_01 x_03", ["x_02"]),
        ("y1999 y2004 y2019", []),
        ("part1 part3", []),
        ("a b c", []),
        ("part1 part2 part3", []),
    ],
)
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.bz2"])
def test_a_gap_among_numbered_files_is_told(names, missing, ending, tmp_path):
    for name in names.split():
        text = row(name).encode()
        put(tmp_path / f"{name}{ending}", bz2.compress(text) if ending.endswith("2") else text)
    found = [name.rpartition("/")[2] for name in Corpus.open(tmp_path).gaps]
    assert found == [f"{name}{ending}" for name in missing]


def test_numbers_of_text_files_are_ids(tmp_path):
    for number in (1, 2, 4, 5):
        put(tmp_path / f"{number}.txt", "Iron.")
    assert not Corpus.open(tmp_path).gaps


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2"])
def test_a_text_may_be_compressed_and_keeps_its_name(ending, tmp_path):
    squeeze = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[ending]
    put(tmp_path / f"metals/Pig_iron.v2.txt{ending}", squeeze("Iron, unrefined.".encode("utf-16")))
    assert list(Corpus.open(tmp_path).articles()) == [
        Article("metals/Pig_iron.v2", "Pig iron.v2", "Iron, unrefined.")
    ]


def test_the_index_of_a_multistream_dump_is_no_text(tmp_path):
    index = put(tmp_path / "enwiki-pages-articles-multistream-index.txt.bz2", bz2.compress(b"1:2:Iron\n"))
    with pytest.raises(InputError, match="not a corpus"):
        Corpus.open(index)
    with pytest.raises(InputError, match="holds no corpus"):
        Corpus.open(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_an_export_in_another_encoding_is_read(encoding, tmp_path):
    put(tmp_path / "wiki.xml.bz2", bz2.compress((HEAD + "".join(PAGES) + TAIL).encode(encoding)))
    assert texts(Corpus.open(tmp_path)) == ARTICLES


@pytest.mark.parametrize(
    "declaration", ["", '<?xml version="1.0"?>\n', '<?xml version="1.0" encoding="UTF-8"?>\n']
)
def test_an_export_in_an_encoding_that_it_does_not_declare_is_named(declaration, tmp_path):
    text = declaration + HEAD + "".join(PAGES) + TAIL
    path = put(tmp_path / "wiki.xml.gz", gzip.compress(text.encode("latin-1")))
    line = text[: text.index("Amp")].count("\n") + 1
    with pytest.raises(InputError, match=f"line {line} is not UTF-8 .byte 0xe8.") as raised:
        list(Corpus.open(path).articles())
    assert "gzip -dc 'wiki.xml.gz' | iconv -f WINDOWS-1252 -t UTF-8 > new.xml" in str(raised.value)


@pytest.mark.parametrize("encoding, fault", [("latin-1", ""), ("gbk", "XML in gbk"), ("x-no", "XML in x-no")])
def test_an_export_may_declare_its_encoding(encoding, fault, tmp_path):
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n' + HEAD + "".join(PAGES) + TAIL
    path = put(tmp_path / "wiki.xml", text.encode("latin-1"))
    if not fault:
        assert texts(Corpus.open(path)) == ARTICLES
        return
    with pytest.raises(InputError, match=fault) as raised:
        list(Corpus.open(path).articles())
    assert f"iconv -f {encoding} -t UTF-8" in str(raised.value)


def test_an_export_that_no_xml_parser_reads_is_named(tmp_path):
    put(tmp_path / "wiki.xml", XML.encode("utf-32"))
    with pytest.raises(InputError, match=r"UTF-32[\s\S]*iconv -f UTF-32"):
        Corpus.open(tmp_path)


DOCS = (
    '<doc id="12" url="https://e.org?curid=12" title="Iron "Fe" &amp; co">\nIron "Fe" &amp; co\n\n'
    "Iron is &lt;b&gt; a metal.\nIt rusts.\n\n</doc>\n"
    '<doc id="25" revid="9" url="" title="Gold">\nGold\n\nGold weighs 19.3 g.\n</doc>\n'
)
READ = [
    Article("12", 'Iron "Fe" & co', "Iron is &lt;b&gt; a metal.\nIt rusts."),
    Article("25", "Gold", "Gold weighs 19.3 g."),
]


@pytest.mark.parametrize("name", ["AA/wiki_00", "AA/wiki_00.bz2", "wiki_00.txt", "wiki_00.txt.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_wikiextractor_writes_is_read(name, end, tmp_path):
    squeeze = {"gz": gzip.compress, "bz2": bz2.compress}.get(name.rpartition(".")[2], bytes)
    put(tmp_path / name, squeeze(DOCS.replace("\n", end).encode()))
    found = Corpus.open(tmp_path).articles()
    assert [article._replace(text=article.text.replace(end, "\n")) for article in found] == READ


def test_what_wikiextractor_writes_as_json_is_read_without_an_ending(tmp_path):
    put(tmp_path / "AA/wiki_00", JSONL)
    put(tmp_path / "LICENSE", "Do what you want.")
    found = Corpus.open(tmp_path)
    assert list(found.articles()) == ARTICLES and [path.name for path in found.aside] == ["LICENSE"]


@pytest.mark.parametrize(
    "text, said",
    [
        (DOCS[:-8], "ends before the document 'Gold'"),
        (DOCS.replace("</doc>\n", "", 1), "line 7: the document 'Iron"),
        (DOCS + "More.\n", "outside any document"),
    ],
)
def test_a_cut_file_of_wikiextractor_names_the_line(text, said, tmp_path):
    put(tmp_path / "wiki_00", text)
    with pytest.raises(InputError, match=said):
        list(Corpus.open(tmp_path).articles())


@given(text=st.text('<doc id="1" title="a">\n/x', max_size=60))
def test_any_text_behind_the_sign_of_wikiextractor_is_read_or_refused(text, tmp_path_factory):
    path = put(tmp_path_factory.mktemp("w") / "wiki_00", DOCS + text)
    try:
        assert list(Corpus.open(path).articles())[:2] == READ
    except InputError as error:
        assert "wiki_00" in str(error)


@pytest.fixture
def divided(zim, tmp_path):  # noqa: F811
    """An archive in three parts, as Kiwix divides them for file systems with a limit."""
    data, folder = zim.read_bytes(), tmp_path / "parts"
    cut = len(data) // 3 + 1
    for number in range(3):
        put(folder / f"w.zima{'abc'[number]}", data[number * cut : (number + 1) * cut])
    return zim, folder


def test_a_divided_zim_reads_as_the_whole_one_by_its_folder_its_name_or_a_part(divided):
    whole, folder = divided
    expected = list(Corpus.open(whole).articles())
    assert expected
    for name in ("", "w.zim", "w.zimaa", "w.zimac"):
        found = Corpus.open(folder / name)
        heard: list[int] = []
        assert [page.article() for page in found.pages(heard.append)] == [
            page.article() for page in Corpus.open(whole).pages()
        ]
        assert list(found.articles()) == expected
        assert found.size == sum(heard) == whole.stat().st_size and len(found.files) == 3


def test_a_part_of_a_zim_that_is_missing_is_named_and_a_whole_one_beside_its_parts_is_refused(divided):
    whole, folder = divided
    shutil.copy(whole, folder / "w.zim")
    for name in ("", "w.zim"):
        with pytest.raises(InputError, match="hold the same articles"):
            Corpus.open(folder / name)
    (folder / "w.zim").unlink()
    (folder / "w.zimab").unlink()
    for name in ("", "w.zimaa"):
        with pytest.raises(InputError, match="missing: zimab"):
            Corpus.open(folder / name)


def test_visible_files_stand_in_the_order_of_their_numbers(tmp_path):
    for name in ("part10.txt", "part2.txt", "._part1.txt"):
        put(tmp_path / name, "x")
    assert [path.name for path in visible(tmp_path)] == ["part2.txt", "part10.txt"]
