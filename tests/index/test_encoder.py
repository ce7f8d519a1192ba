"""The encoder equals sentence-transformers' own `encode`, whatever stands beside a text."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from model_toys import TEXTS, tiny_model
from sentence_transformers import SentenceTransformer

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.runtime.errors import ArtifactError, CheckpointError


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("tiny"))


def test_vectors_equal_sentence_transformers_own_whatever_the_batch(encoder):
    own = encoder.model.encode(TEXTS, normalize_embeddings=True)
    assert np.abs(encoder.encode_passages(TEXTS) - own).max() < 1e-5
    turned = encoder.encode_passages(TEXTS[::-1] * 3)[: len(TEXTS)][::-1]
    alone = np.vstack([encoder.encode_passages([text]) for text in TEXTS])
    assert np.abs(turned - own).max() < 1e-5 and np.abs(alone - own).max() < 1e-5


def test_vectors_are_float32_of_length_one(encoder):
    vectors = encoder.encode_queries(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (len(TEXTS), 384)
    assert np.allclose(np.linalg.norm(vectors.astype(float), axis=1), 1, atol=1e-6)


def test_no_texts_give_no_vectors(encoder):
    assert encoder.encode_queries([]).shape == (0, 384) and encoder.count_tokens([]).shape == (0,)


def test_every_finished_row_is_heard_once(encoder):
    heard = []
    encoder.encode_passages(TEXTS, on_rows=heard.append)
    assert sum(heard) == len(TEXTS) and len(heard) > 1


def test_tokens_are_counted_without_special_ones_and_without_a_cut(encoder):
    counts = encoder.count_tokens(["iron rusts", "iron " * 600, ""])
    assert counts.tolist() == [len(encoder.model.tokenizer.tokenize("iron rusts")), 600, 0]


def test_prompts_that_a_model_declares_are_put_before_its_texts(tmp_path):
    folder = tiny_model(tmp_path, prompts={"query": "ask: ", "document": "doc: "})
    encoder, own = Encoder(str(folder), device="cpu"), SentenceTransformer(str(folder), device="cpu")
    for found, prompt in ((encoder.encode_queries, "ask: "), (encoder.encode_passages, "doc: ")):
        expected = own.encode(["iron", "gold"], prompt=prompt, normalize_embeddings=True)
        assert np.abs(found(["iron", "gold"]) - expected).max() < 1e-5
    assert np.abs(encoder.encode_queries(["iron"]) - encoder.encode_passages(["iron"])).max() > 1e-3


@pytest.mark.parametrize(
    "name, query, passage",
    [
        ("e5-small-v2", "query: ", "passage: "),
        ("bge-small-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("multilingual-e5-small", "query: ", "passage: "),
        ("gte-small", "", ""),
    ],
)
def test_prompts_that_a_family_was_trained_with_are_known_by_its_name(tiny, tmp_path, name, query, passage):
    shutil.copytree(tiny, tmp_path / name)
    card = Encoder(str(tmp_path / name), device="cpu").card
    assert (card.query_prompt, card.passage_prompt) == (query, passage)


def test_an_index_takes_its_encoder_from_another_place_but_no_other_encoder(tiny, tmp_path):
    card = Encoder(str(tiny), device="cpu").card
    prompted = dataclasses.replace(card, name="gone/from-here", query_prompt="ask: ", max_tokens=16)
    moved = Encoder.of_index(prompted, name=str(shutil.copytree(tiny, tmp_path / "moved")), device="cpu")
    assert moved.card == prompted and moved.model.max_seq_length == 16
    assert np.array_equal(moved.encode_queries(["iron"]), moved.encode_passages(["ask: iron"]))
    (tmp_path / "other").mkdir()
    other = tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(ArtifactError, match="another encoder"):
        Encoder.of_index(card, name=str(other))


def test_a_window_is_read_to_its_end_behind_a_passage_prompt(tmp_path):
    model = tiny_model(tmp_path, prompts={"query": "query: ", "passage": "passage: "})
    reads = json.loads((model / "sentence_bert_config.json").read_text())
    (model / "sentence_bert_config.json").write_text(json.dumps({**reads, "max_seq_length": 16}))
    encoder = Encoder(str(model), device="cpu", window=20)
    text = "ironrustsinthewetai"  # one token a letter
    ends = encoder.encode_passages([f"{text}a", f"{text}b", f"{text}bc"])
    assert not np.allclose(ends[0], ends[1], atol=1e-4)
    assert encoder.card.max_tokens == 20 + len(encoder.model.tokenizer("passage: ")["input_ids"])
    assert np.allclose(ends[1], ends[2], atol=1e-6)


def test_a_short_window_cuts_no_query(tmp_path):
    encoder = Encoder(str(tiny_model(tmp_path)), device="cpu", window=8)
    ends = encoder.encode_queries([f"ironrustsinthewetair{letter}" for letter in "ab"])
    assert not np.allclose(ends[0], ends[1], atol=1e-4) and encoder.card.max_tokens == 64


def test_an_empty_text_has_a_vector_where_the_tokenizer_adds_nothing(tmp_path):
    encoder = Encoder(str(tiny_model(tmp_path, specials=False)), device="cpu")
    vectors = encoder.encode_queries(["", "iron"])
    assert np.isfinite(vectors).all() and np.linalg.norm(vectors[1]) == pytest.approx(1, abs=1e-6)


def test_half_a_surrogate_in_a_question_does_not_stop_the_encoder(encoder):
    vectors = encoder.encode_queries(["iron \ud800"])
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-6)


def test_a_folder_that_is_no_model_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        Encoder(str(tmp_path), device="cpu")
