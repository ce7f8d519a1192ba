"""Articles as people have them: three table formats, folders of them, folders of text."""

import csv
import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kaggle_rag.runtime.errors import InputError
from wiki_index.corpus import Article, Corpus

ROWS = [
    {"id": "7", "title": "Iron, Fe", "text": 'A "metal".\nIt rusts at 20 °C.'},
    {"id": "007", "title": "NA", "text": "Not a missing value."},
    {"id": "x", "title": "", "text": ""},
]


def write(path, rows):
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
def test_every_format_gives_the_same_articles(ending, tmp_path):
    path = write(tmp_path / f"a{ending}", ROWS)
    assert list(Corpus.open(path).articles()) == [Article(**row) for row in ROWS]


def cirrus(rows):
    pairs = [({"index": {"_id": str(n)}}, {"title": row["title"], "text": row["text"]}) for n, row in rows]
    return "".join(json.dumps(line) + "\n" for pair in pairs for line in pair)


def extracted(rows):
    return "".join(f'<doc id="{n}" url="" title="{r["title"]}">\n{r["text"]}\n</doc>\n' for n, r in rows)


@pytest.mark.parametrize(
    "name",
    ["a.csv", "a.parquet", "a.jsonl", "a.jsonl.gz", "a-cirrussearch-content.json.gz", "wiki_00"],
)
def test_a_bar_moves_while_a_file_is_read(name, tmp_path):
    """Half of the articles, which are alike, are about half of the bytes, compressed or not."""
    rng, path = random.Random(0), tmp_path / name
    rows = [{"title": f"t{n}", "text": f"{rng.getrandbits(8_000):x}"} for n in range(2_000)]
    if name in ("a.csv", "a.parquet", "a.jsonl"):
        write(path, rows)
    elif name == "a.jsonl.gz":
        path.write_bytes(gzip.compress(write(tmp_path / "plain.jsonl", rows).read_bytes()))
    else:
        text = (extracted if name == "wiki_00" else cirrus)([*enumerate(rows)])
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    corpus, told = Corpus.open(path), []
    for page in corpus.pages(told.append):
        if page.number == 1_000:
            assert sum(told) == pytest.approx(corpus.size / 2, rel=0.35)
    assert page.number == 1_999 and sum(told) == corpus.size and min(told) >= 0


def test_files_of_a_folder_follow_each_other_by_name_and_ids_go_on_counting(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.csv", "a.jsonl", "sub/c.parquet"):
        write(tmp_path / name, [{"title": name, "text": "x y"}, {"title": name, "text": "y z"}])
    found = list(Corpus.open(tmp_path).articles())
    assert [article.title for article in found[::2]] == ["a.jsonl", "b.csv", "sub/c.parquet"]
    assert [article.id for article in found] == list("012345")


def test_a_text_file_is_an_article_named_by_its_path(tmp_path):
    (tmp_path / "metals").mkdir()
    (tmp_path / "metals/Pig_iron.txt").write_bytes(b"\xef\xbb\xbfIron, unrefined.")
    assert list(Corpus.open(tmp_path).articles()) == [
        Article("metals/Pig_iron", "Pig iron", "Iron, unrefined.")
    ]


def test_text_that_is_not_utf8_is_named_with_its_byte(tmp_path):
    (tmp_path / "a.txt").write_bytes("100 °C".encode("latin-1"))
    with pytest.raises(InputError, match=r"line 1 is not UTF-8 \(byte 0xb0\)"):
        list(Corpus.open(tmp_path).articles())


def test_the_fingerprint_follows_contents_and_names_but_not_the_place(tmp_path):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        for name in ("a.csv", "b.csv"):
            write(tmp_path / place / name, ROWS)
    before = Corpus.open(tmp_path / "one").fingerprint()
    assert Corpus.open(tmp_path / "two").fingerprint() == before and before["files"] == 2
    (tmp_path / "two/b.csv").rename(tmp_path / "two/c.csv")
    assert Corpus.open(tmp_path / "two").fingerprint() != before
    write(tmp_path / "one/b.csv", ROWS[::-1])
    assert Corpus.open(tmp_path / "one").fingerprint() != before


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
def test_a_missing_column_is_named_beside_those_that_are_there(ending, tmp_path):
    path = write(tmp_path / f"a{ending}", [{"title": "Iron", "body": "x"}])
    with pytest.raises(InputError, match=r"'text' is missing[\s\S]*title, body"):
        list(Corpus.open(path).articles())


def test_an_empty_cell_of_parquet_is_no_text(tmp_path):
    path = write(tmp_path / "a.parquet", [{"title": "a", "text": "x"}, {"title": None, "text": None}])
    assert list(Corpus.open(path).articles())[1] == Article("1", "", "")


def test_half_a_surrogate_in_a_title_or_id_does_not_stop_a_build(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "\\ud800", "title": "Iron \\udfff", "text": "It rusts."}\n')
    assert list(Corpus.open(path).articles()) == [Article("?", "Iron ?", "It rusts.")]


def test_a_folder_without_a_corpus_says_what_it_looks_for(tmp_path):
    (tmp_path / "paper.pdf").write_bytes(b"%PDF")
    with pytest.raises(InputError, match=r"\.txt, \.csv, \.parquet, \.jsonl"):
        Corpus.open(tmp_path)
