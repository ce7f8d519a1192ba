"""What can be told before any work is told then: one message, exit code 2, nothing written."""

import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_corpus
from model_toys import tiny_model
from sentence_transformers import SentenceTransformer

from kaggle_rag.index.index import Index
from kaggle_rag.runtime.errors import InputError, run_program
from kaggle_rag.runtime.limits import parse_size
from wiki_index import __main__ as program
from wiki_index.commands import build_plan
from wiki_index.corpus import Corpus
from wiki_index.steps import split


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A corpus, an encoder's folder, an index of both, a folder of something else, two bad tables."""
    folder = tmp_path_factory.mktemp("early")
    write_corpus(folder / "corpus.jsonl", ["Iron is a metal. It rusts.", "Gold is heavy. It shines."])
    found = {"corpus": folder / "corpus.jsonl", "encoder": tiny_model(folder), "index": folder / "index"}
    with pytest.MonkeyPatch.context() as patched:
        assert call(patched, "build", found["corpus"], found["index"], "--encoder", found["encoder"]) == 0
    (folder / "full").mkdir()
    (folder / "full/notes.md").write_text("mine")
    (folder / "no_prompt.csv").write_text("id,A,B\n1,x,y\n")
    return found | {"full": folder / "full", "no_prompt": folder / "no_prompt.csv", "here": folder}


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["wiki_index", *map(str, arguments)])
    return run_program(program.main)


BUILD = ("build", "{corpus}", "{here}/out", "--encoder", "{encoder}")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ((*BUILD, "--questions", "{no_prompt}"), "column 'prompt' is missing"),
        ((*BUILD, "--questions", "{here}/none.csv"), "no such file"),
        ((*BUILD, "--reuse", "{here}/none"), "no such index folder"),
        ((*BUILD, "--reuse", "{corpus}"), "a file, not an index folder"),
        ((*BUILD, "--ram", "2XB"), "--ram: cannot read the size"),
        (("build", "{corpus}", "/", "--encoder", "{encoder}"), "root of a disk"),
        (("build", "{corpus}", "{full}", "--encoder", "{encoder}"), "holds something else"),
        ((*BUILD, "--questions", "{no_prompt}", "--dry-run"), "column 'prompt' is missing"),
        (("build", "{corpus}", "{full}", "--encoder", "{encoder}", "--dry-run"), "holds something else"),
    ],
)
def test_a_build_that_must_fail_is_refused_before_the_corpus_is_split(
    command, said, places, monkeypatch, capsys
):
    monkeypatch.setattr(split, "_shards", lambda *_: pytest.fail("the corpus was read"))
    assert call(monkeypatch, *(part.format(**places) for part in command)) == 2
    assert said in capsys.readouterr().err
    assert not (places["here"] / "out").exists() and not (places["here"] / "out.building").exists()
    assert [path.name for path in places["full"].iterdir()] == ["notes.md"]


def test_a_first_article_that_cannot_be_read_is_told_before_an_encoder_is_loaded(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "wiki.jsonl").write_text('{"id": {"page": 1}, "title": "Iron", "text": "Iron rusts."}\n')
    monkeypatch.setattr(build_plan, "_encoders", lambda *_: pytest.fail("an encoder was loaded"))
    assert call(monkeypatch, "build", tmp_path / "wiki.jsonl", tmp_path / "out") == 2
    assert "wiki.jsonl, row 1, column id" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["wiki.jsonl"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("measure", "{index}", "-k", "0"), "-k: cannot search for 0 passages"),
        (("measure", "{index}", "--kinds", "foo"), "--kinds: no index kind 'foo'"),
        (("measure", "{index}", "--recall", "7"), "--recall: 7.0 is not a recall"),
        (("search", "{index}", " "), "nothing to search for"),
        (("search", "{index}", "iron", "--retriever", "bm25", "--exact"), "bm25 has no vectors"),
        (("search", "{corpus}", "iron"), "a file, not an index folder"),
        (("check", "{index}", "--language", "de"), "apply to a corpus"),
    ],
)
def test_questions_that_make_no_sense_are_refused_before_a_model_is_loaded(
    command, said, places, monkeypatch, capsys
):
    for loading in ("models.sentence_model.sentence_model", "index.encoder.sentence_bert"):
        monkeypatch.setattr(f"kaggle_rag.{loading}", lambda *_, **__: pytest.fail("loaded"))
    assert call(monkeypatch, *(part.format(**places) for part in command)) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("unit", "cuts"), [("article", True), ("sentence", False), ("window:8/2", False)])
def test_articles_longer_than_an_encoder_reads_are_told(unit, cuts, places, tmp_path, monkeypatch, capsys):
    flags = ["--encoder", places["encoder"], "--unit", unit, "--dry-run"]
    assert call(monkeypatch, "build", places["corpus"], tmp_path / "out", *flags) == 0
    most = SentenceTransformer(str(places["encoder"]), device="cpu").max_seq_length
    assert (f"reads the first {most:,} tokens of an article" in capsys.readouterr().err) == cuts


def test_an_encoder_that_was_moved_is_the_same_encoder(places, tmp_path, monkeypatch):
    moved = shutil.copytree(places["encoder"], tmp_path / "model")
    flags = ["--encoder", moved, "--reuse", places["index"]]
    assert call(monkeypatch, "build", places["corpus"], tmp_path / "new", *flags) == 0
    old, new = Index(places["index"]), Index(tmp_path / "new")
    assert np.array_equal(old.vectors(np.arange(4)), new.vectors(np.arange(4)))
    assert call(monkeypatch, "build", places["corpus"], places["index"], "--encoder", moved) == 0


@pytest.mark.parametrize("value", [{"html": "The sun."}, [{"p": "The sun."}], [["The sun."]]])
def test_a_column_that_is_no_text_is_refused_by_its_type_before_a_row_is_read(value, tmp_path):
    pq.write_table(pa.table({"title": ["Sun"], "text": [value]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"column 'text' holds (struct|list)<"):
        Corpus.open(tmp_path / "a.parquet")


def test_text_files_beside_tables_are_left_aside_and_named(places, tmp_path, monkeypatch, capsys):
    (tmp_path / "c").mkdir()
    write_corpus(tmp_path / "c/a.jsonl", ["Iron is a metal."])
    (tmp_path / "c/readme.txt").write_text("Not an article.")
    assert [article.title for article in Corpus.open(tmp_path / "c").articles()] == ["T0"]
    call(monkeypatch, "build", tmp_path / "c", tmp_path / "o", "--encoder", places["encoder"], "--dry-run")
    assert "readme.txt" in capsys.readouterr().err


def test_sizes_are_read_as_they_are_written():
    assert [parse_size(text) for text in ("2GB", "2 GiB", "1.5k", 7)] == [2 * 10**9, 2 * 2**30, 1500, 7]
