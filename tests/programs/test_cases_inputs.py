"""Inputs of public bug reports that went wrong, as they lie in the workplace of this project."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from model_toys import tiny_model

from inference.__main__ import main as answer
from kaggle_rag.data.questions import Questions
from kaggle_rag.index.index import Index
from kaggle_rag.runtime.errors import InputError
from wiki_index.__main__ import main
from wiki_index.corpus import Article, Corpus

CASES = ROOT.parent / "shared" / "cases"


def case(name):
    if not (CASES / name).is_dir():
        pytest.skip(f"needs {CASES / name}, which a clone does not have")
    return CASES / name


def titles(path, **settings):
    return [article.title for article in Corpus.open(path, **settings).articles()]


def test_11_cells_that_are_no_text():
    folder = case("11-cells-not-text")
    found = Questions.read(folder / "num.parquet")
    assert found.ids == (0, 1) and found.options == (("0.1", "0.2", "5"), ("9.8", "9.9", None))
    with pytest.raises(InputError, match=r"row 2, column A: the cell holds a structure"):
        Questions.read(folder / "ctx.jsonl")
    first = json.loads((folder / "ctx.jsonl").read_text().splitlines()[0])
    assert Questions.from_rows([first], "x").contexts == (
        "Plants take in carbon dioxide.\nThey give off oxygen.",
    )
    with pytest.raises(InputError, match="column 'A' appears twice"):
        Questions.read(folder / "dup.parquet")


def test_13_one_file_twice():
    folder = case("13-same-file-twice")
    with pytest.raises(InputError, match=r"simplewiki\.xml and simplewiki\.xml\.bz2 hold the same articles"):
        Corpus.open(folder / "in")
    assert titles(folder / "in2") == ["Iron"]


@pytest.mark.parametrize(
    "place, query",
    [
        ("bge-m3", ""),
        ("bge-small-zh-v1.5", "为这个句子生成表示以用于检索相关文章："),
        ("multilingual-e5-large-instruct", "Instruct: "),
        ("bge/transformers/bge-small-en-v1.5/1", "Represent this sentence for searching relevant passages: "),
    ],
)
def test_14_prompts_of_an_encoder(place, query, tmp_path, monkeypatch):
    corpus = case("14-encoder-prompts") / "in"
    model = shutil.copytree(tiny_model(tmp_path / "made"), tmp_path / place)
    monkeypatch.setattr(
        "sys.argv", ["w", "build", str(corpus), str(tmp_path / "out"), "--encoder", str(model)]
    )
    assert main() == 0
    card = Index(tmp_path / "out").manifest.encoder
    assert card.query_prompt.startswith(query) and bool(card.query_prompt) == bool(query)
    assert card.passage_prompt == ""


def test_16_wikiextractor():
    folder = case("16-wikiextractor")
    gold = Article("2", "Gold", "Gold is a metal too.")
    iron = Article("1", "Iron", "Iron is a metal.")
    assert list(Corpus.open(folder / "txt").articles()) == [iron, gold]
    assert list(Corpus.open(folder / "plain").articles()) == [iron]


@pytest.mark.parametrize("name", ["sample_submission.csv", "blank.csv"])
def test_24_of_a_sample_submission_only_the_ids_count(name, tmp_path, monkeypatch):
    folder = case("24-sample-five-letters")
    out = tmp_path / "submission.csv"
    command = ["submit", "--questions", folder / "test.csv", "--sample", folder / name, "--without-contexts"]
    monkeypatch.setattr("sys.argv", ["inference", *map(str, [*command, "--out", out])])
    assert answer() == 0
    assert [line.split(",")[0] for line in out.read_text().splitlines()] == ["id", "176", "181"]


def test_25_tables_of_excel():
    folder = case("25-excel-csv")
    for name in ("sep.csv", "trailing.csv"):
        found = Questions.read(folder / name)
        assert (found.ids, found.letters, found.options) == (("0",), "ABC", (("O2", "CO2", "N2"),))
    with pytest.raises(InputError, match="separated by semicolons"):
        Questions.read(folder / "semicolon.csv")


def test_26_an_export_in_utf_16():
    found = list(Corpus.open(case("26-utf16-xml")).articles())
    assert found[0].title == "Григориански календар" and "календар" in found[0].text


def test_27_what_macos_leaves():
    folder = case("27-appledouble")
    assert titles(folder / "in") == titles(folder / "in2") == ["Iron"]


def test_28_the_wikipedia_that_competitors_attach():
    folder = case("28-kaggle-wikipedia") / "in"
    with pytest.raises(InputError, match=r"1 of 4 files hold no articles: wiki_2023_index\.parquet"):
        Corpus.open(folder)
    texts = [pq.read_table(folder / f"{name}.parquet")["title"].to_pylist() for name in ("a", "b", "other")]
    assert titles(folder, skip_others=True) == [title for text in texts for title in text]


def test_29_a_divided_zim():
    pytest.importorskip("libzim")
    folder = case("29-split-zim") / "in"
    assert titles(folder / "w.zim") == titles(folder) and len(titles(folder)) > 50


def test_31_the_reason_for_a_simpler_index(tmp_path, monkeypatch, capsys):
    corpus = case("31-few-vectors") / "in"
    monkeypatch.setattr("sys.argv", ["w", "build", str(corpus), str(tmp_path / "o"), "--index", "ivf-pq"])
    assert main() == 0
    said = capsys.readouterr()
    reason = "3 vectors are too few to learn lists from (20,000 at least)"
    assert f"sq8 instead of ivf-pq: {reason}" in said.out and reason in said.err
