"""Building, resuming, refusing and searching an index; the encoder is the real one."""

import filecmp
import json
import re
import subprocess
import sys

import faiss
import numpy as np
import pytest
from conftest import ROOT
from killed import kill_build

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.index.manifest import MANIFEST
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError, LimitError, run_program
from kaggle_rag.runtime.files import fields_sha256, seal
from kaggle_rag.text.units import Unit
from wiki_index import __main__ as program
from wiki_index.build import build
from wiki_index.corpus import Corpus
from wiki_index.forecast import forecast
from wiki_index.plan import Plan

SHARD_ROWS = 40


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """30 articles of 10 sentences, one of them empty."""
    path = tmp_path_factory.mktemp("corpus") / "articles.jsonl"
    subjects = ["iron", "basalt", "whales", "quasars", "enzymes", "glass"]
    with path.open("w") as file:
        for a in range(30):
            text = " ".join(
                f"{subjects[a % 6].title()} was studied in {1800 + a * s} by {s + 2} people."
                for s in range(10)
            )
            file.write(json.dumps({"id": a, "title": f"Article {a}", "text": "" if a == 7 else text}) + "\n")
    return path


@pytest.fixture(scope="module")
def index(corpus, encoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "index"
    build(Plan(Corpus.open(corpus), out, {"minilm": encoder}, Unit("sentence"), shard_rows=SHARD_ROWS))
    return out


def run(*arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["wiki_index", *map(str, arguments)])
    return run_program(program.main)


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def same(left, right):
    return files(left) == files(right) and not filecmp.cmpfiles(left, right, files(left), shallow=False)[1]


def test_vectors_are_those_of_sentence_transformers_own_encode(index, encoder):
    opened = Index(index)
    rows = np.array([0, 41, 289, 3])
    texts = [passage.text for passage in opened.passages.take(rows)]
    own = encoder.model.encode(texts, normalize_embeddings=True)
    assert np.abs(opened.vectors(rows) - own).max() < 1e-5


def test_the_empty_article_is_counted_and_the_counts_agree(index):
    manifest = Index(index).manifest
    assert (manifest.articles, manifest.passages, manifest.skipped) == (30, 290, {"empty": 1})
    assert sum(manifest.shard_rows) == 290 and len(manifest.shard_rows) == 8


@pytest.mark.parametrize(
    "seen", ["passages/00001.arrow", "dense/minilm/encoded/00000", "dense/minilm/encoded/00004"]
)
def test_a_build_killed_at_any_point_ends_with_the_same_bytes(seen, corpus, index, encoder, tmp_path):
    out, work = tmp_path / "index", tmp_path / "index.building"
    plan = Plan(Corpus.open(corpus), out, {"minilm": encoder}, Unit("sentence"), shard_rows=SHARD_ROWS)
    kill_build(plan, work / seen)
    (work / ".half.1.part").write_text("what a killed writer leaves")
    assert not out.exists() and (work / seen).exists()
    build(plan)
    assert same(out, index) and not work.exists()


def test_the_same_command_on_a_finished_index_does_nothing(index, corpus, encoder):
    before = {name: (index / name).stat().st_mtime_ns for name in files(index)}
    assert (
        build(Plan(Corpus.open(corpus), index, {"minilm": encoder}, Unit("sentence"), shard_rows=SHARD_ROWS))
        == []
    )
    assert before == {name: (index / name).stat().st_mtime_ns for name in files(index)}


def test_an_output_that_holds_something_else_is_refused_and_untouched(index, corpus, encoder, tmp_path):
    with pytest.raises(ArtifactError, match="differs in unit"):
        build(Plan(Corpus.open(corpus), index, {"minilm": encoder}, Unit("article")))
    for folder in (tmp_path / "out", tmp_path / "next.building"):
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "next"):
        with pytest.raises(ArtifactError, match="something else"):
            build(Plan(Corpus.open(corpus), out, {"minilm": encoder}, Unit("sentence")))
    assert files(tmp_path) == ["next.building/thesis.txt", "out/thesis.txt"]


def test_one_sentence_is_a_corpus_and_a_folder_of_text_too(encoder, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/Black_hole.txt").write_text("Light cannot leave it.")
    build(Plan(Corpus.open(tmp_path / "notes"), tmp_path / "out", {"minilm": encoder}, Unit("window", 16, 4)))
    opened = Index(tmp_path / "out")
    assert [opened.passages[0][1:]] == [("Black_hole", "Black hole", "Light cannot leave it.")]
    assert len(opened.search(encoder.encode_queries(["light"]), 10)[1][0]) == 1


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.csv", "title,body\nx,y\n", "'text' is missing"),
        ("a.csv", "title,text\nx,\n", "no text"),
        ("a.csv", "", "empty"),
        ("a.parquet", "PAR1 nothing", "Parquet"),
        ("a.doc", "x", "ending"),
    ],
)
def test_a_bad_corpus_is_refused(name, content, said, encoder, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=said):
        build(Plan(Corpus.open(tmp_path / name), tmp_path / "out", {"minilm": encoder}, Unit("sentence")))
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="no such corpus"):
        Corpus.open(tmp_path / "none")


def copy(index, tmp_path):
    target = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(index), str(target)], check=True)
    return target


@pytest.mark.parametrize(
    "name", ["passages/00000.arrow", "dense/minilm/vectors.npy", "dense/minilm/index.faiss"]
)
def test_a_flipped_byte_is_found(name, index, tmp_path, monkeypatch, capsys):
    broken = copy(index, tmp_path)
    data = bytearray((broken / name).read_bytes())
    data[len(data) // 2] ^= 1
    (broken / name).write_bytes(data)
    assert run("check", broken, monkeypatch=monkeypatch) == 2
    assert name in (said := capsys.readouterr().err) and "checksum" in said


def fewer_vectors(dense):
    np.save(dense / "vectors.npy", np.load(dense / "vectors.npy")[:-1])


def fewer_codes(dense):
    flat = faiss.read_index(str(dense / "index.faiss"))
    flat.remove_ids(np.array([3]))
    faiss.write_index(flat, str(dense / "index.faiss"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(fewer_vectors, r"\(289, 384\)"), (fewer_codes, "289 rows of 384 dimensions, its vectors 290 rows")],
)
def test_rows_that_disagree_are_found_though_the_checksums_agree(
    spoil, said, index, tmp_path, monkeypatch, capsys
):
    broken = copy(index, tmp_path)
    spoil(broken / "dense/minilm")
    manifest = json.loads((broken / MANIFEST).read_text())
    manifest["files"] = seal(broken, list(manifest["files"]))
    del manifest["sha256"]
    manifest["sha256"] = fields_sha256(manifest)
    (broken / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=said):
        # A FAISS index may have to be loaded: it is asked when it is searched.
        Index(broken).search(np.zeros((1, 384), np.float32), 1)
    assert run("check", broken, monkeypatch=monkeypatch) == 2
    assert re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize(
    "change",
    [{"files": {}}, {"passages": 289}, {"unit": "sentenge"}, {"dense": None}, {"shard_rows": "x"}],
)
def test_a_changed_manifest_is_refused(change, index, tmp_path):
    broken = copy(index, tmp_path)
    manifest = json.loads((broken / MANIFEST).read_text())
    (broken / MANIFEST).write_text(json.dumps({**manifest, **change}))
    with pytest.raises(ArtifactError, match="its own checksum differs"):
        Index(broken)


def test_no_manifest_or_another_is_refused(index, tmp_path, monkeypatch, capsys):
    broken = copy(index, tmp_path)
    (broken / MANIFEST).write_text('{"kind": "cake"}')
    assert run("check", broken, monkeypatch=monkeypatch) == 2
    (broken / MANIFEST).unlink()
    assert run("search", broken, "x", monkeypatch=monkeypatch) == 2
    assert run("check", tmp_path / "none", monkeypatch=monkeypatch) == 2
    said = capsys.readouterr().err
    assert "cake" in said and "no manifest.json" in said and "no such index" in said


@pytest.fixture(scope="module")
def other_encoder(tmp_path_factory):
    """A BERT of two tiny layers with MiniLM's tokenizer, saved as a user's own model would be."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel

    from kaggle_rag.models.checkpoints import resolve

    folder = tmp_path_factory.mktemp("e5-small") / "e5-small"
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder / "bert")
    minilm = SentenceTransformer(str(resolve("all-MiniLM-L6-v2").path), device="cpu")
    minilm.tokenizer.save_pretrained(folder / "bert")
    words = Transformer(str(folder / "bert"), max_seq_length=32)
    SentenceTransformer(modules=[words, Pooling(32)], device="cpu").save(str(folder))
    return folder


def test_another_encoder_has_its_prompts_and_is_refused_by_an_index(other_encoder, index, encoder):
    tiny = Encoder(str(other_encoder), device="cpu")
    assert (tiny.card.dim, tiny.card.query_prompt, tiny.card.passage_prompt) == (32, "query: ", "passage: ")
    assert np.allclose(tiny.encode_passages(["a b"]), tiny.encode_queries(["a b"]), atol=1e-3) is False
    assert np.allclose(np.linalg.norm(tiny.encode_passages(["a b", "c"]), axis=1), 1)
    with pytest.raises(ArtifactError, match="another encoder"):
        Encoder.of_index(Index(index).manifest.encoder, name=str(other_encoder))
    with pytest.raises(ConfigError, match="reads at most 64 tokens"):
        Encoder(str(other_encoder), device="cpu", window=300)


def test_the_budget_refuses_before_encoding_and_a_dry_run_writes_nothing(corpus, encoder, tmp_path):
    plan = Plan(Corpus.open(corpus), tmp_path / "out", {"minilm": encoder}, Unit("sentence"), ram=1000)
    with pytest.raises(LimitError, match="raise --ram"):
        build(plan)
    assert not list((tmp_path / "out.building").rglob("*.npy"))
    empty = Plan(Corpus.open(corpus), tmp_path / "dry/out", {"minilm": encoder}, Unit("sentence"))
    assert forecast(empty).articles == 30 and not (tmp_path / "dry").exists()


def test_the_command_line_builds_searches_and_checks(corpus, tmp_path, monkeypatch, capsys):
    """A build as the shell starts it; what it made is read here."""
    command = [sys.executable, "-m", "wiki_index", "build", corpus, tmp_path / "i"]
    subprocess.run(command, cwd=ROOT, check=True)
    assert run("check", tmp_path / "i", monkeypatch=monkeypatch) == 0
    assert "checksums, row counts and encoders agree" in capsys.readouterr().out
    assert run("search", tmp_path / "i", "quasars", "-k", "3", "--json", monkeypatch=monkeypatch) == 0
    hits = json.loads(capsys.readouterr().out)
    assert len(hits) == 3 and "Quasars" in hits[0]["text"]
    assert run("build", tmp_path / "none.csv", tmp_path / "j", monkeypatch=monkeypatch) == 2
    assert "no such corpus" in capsys.readouterr().err
