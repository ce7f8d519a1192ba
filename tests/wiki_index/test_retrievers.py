"""Several retrievers of one index, and vectors taken over from an older one."""

import json

import numpy as np
import pytest
from build_toys import call, plan_of
from conftest import ROWS
from model_toys import tiny_model

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.text.units import Unit
from wiki_index.build import build
from wiki_index.corpus import Corpus
from wiki_index.plan import Plan


def test_the_vectors_of_an_older_index_are_taken_over_and_only_new_texts_encoded(
    corpus, whole, tiny, tmp_path, monkeypatch
):
    new = tmp_path / "new.jsonl"
    changed = corpus.read_text().replace(
        "Ore 7 holds 21 grams of it.", "Ore 7 is gone. Ore 7 holds 21 grams of it."
    )
    new.write_text(changed)
    encoded, encode = [], Encoder.encode_for_index

    def watched(self, texts, **more):
        encoded.extend(texts)
        return encode(self, texts, **more)

    plan = Plan(
        Corpus.open(new), tmp_path / "out", {"minilm": tiny}, Unit("sentence"), reuse=whole, shard_rows=ROWS
    )
    with monkeypatch.context() as patched:
        patched.setattr(Encoder, "encode_for_index", watched)
        build(plan)
    index, texts = Index(tmp_path / "out"), []
    for number in range(len(index.manifest.shard_rows)):
        texts += index.passages.shard(number)["text"].to_pylist()
    assert encoded == ["Ore 7 is gone."] and len(texts) == 361
    assert np.abs(index.vectors(np.arange(361)) - tiny.encode_passages(texts)).max() < 1e-6


def test_vectors_of_another_encoder_are_not_taken_over(corpus, whole, tmp_path):
    (tmp_path / "other").mkdir()
    other = Encoder(str(tiny_model(tmp_path / "other", seed=1)), device="cpu")
    plan = Plan(Corpus.open(corpus), tmp_path / "out", {"minilm": other}, Unit("sentence"), reuse=whole)
    with pytest.raises(ArtifactError, match="to reuse"):
        build(plan)


def test_equal_texts_are_encoded_once(tiny, tmp_path, monkeypatch):
    encoded, encode = [], Encoder.encode_for_index
    monkeypatch.setattr(
        Encoder, "encode_for_index", lambda self, t, **more: encoded.extend(t) or encode(self, t, **more)
    )
    build(plan_of(["Iron rusts. It is red."] * 3, tiny, tmp_path, vectors="fp32"))
    vectors = Index(tmp_path / "out").vectors(np.arange(6))
    assert sorted(encoded) == ["Iron rusts.", "It is red."] and np.array_equal(vectors[:2], vectors[4:])


def test_two_encoders_and_words_are_retrievers_of_one_index(corpus, tiny, tmp_path, monkeypatch, capsys):
    (tmp_path / "other").mkdir()
    folder = tiny_model(tmp_path / "other", seed=1).rename(tmp_path / "other" / "second")
    command = [
        "build",
        corpus,
        tmp_path / "out",
        "--encoder",
        tiny.card.name,
        "--encoder",
        folder,
        "--lexical",
    ]
    assert call(*command, "--vectors", "int8", monkeypatch=monkeypatch) == 0
    index = Index(tmp_path / "out")
    assert list(index.dense) == ["model", "second"] and index.manifest.lexical_rows == [360]
    first, second = (dense.vectors(np.arange(5)) for dense in index.dense.values())
    assert index.default.card.step > 0 and np.abs(first - second).max() > 0.1
    capsys.readouterr()
    for name in ("bm25", "second"):
        search = [
            "search",
            tmp_path / "out",
            "Ore 9 holds 36 grams",
            "--retriever",
            name,
            "--json",
            "-k",
            "3",
        ]
        assert call(*search, monkeypatch=monkeypatch) == 0
        hits = json.loads(capsys.readouterr().out)
        assert len(hits) == 3 and (name != "bm25" or hits[0]["text"] == "Ore 9 holds 36 grams of it.")
    assert call("search", tmp_path / "out", "ore", "--retriever", "third", monkeypatch=monkeypatch) == 2
    assert "model, second, bm25" in capsys.readouterr().err


def test_an_index_without_words_says_how_to_get_them(whole, monkeypatch, capsys):
    assert call("search", whole, "ore", "--retriever", "bm25", monkeypatch=monkeypatch) == 2
    assert "--lexical" in capsys.readouterr().err


def test_exact_search_by_the_command_line_is_that_of_the_index(whole, monkeypatch, capsys):
    found = []
    for more in ([], ["--exact"]):
        assert call("search", whole, "ore 5", "--json", *more, monkeypatch=monkeypatch) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [hit["row"] for hit in found[0]] == [hit["row"] for hit in found[1]]
