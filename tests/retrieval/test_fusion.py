"""Several retrievers of one index: fused scores against a hand computation over every passage."""

import json

import numpy as np
import pytest
from model_toys import tiny_cross_encoder, tiny_model

from kaggle_rag.config import ContextSettings
from kaggle_rag.data.questions import Questions
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.retrieval.crossencoder import CrossEncoder
from kaggle_rag.retrieval.fusion import FUSIONS, MERGES, RetrieverScores
from kaggle_rag.retrieval.queries import queries_of
from kaggle_rag.retrieval.retriever import Retriever
from kaggle_rag.retrieval.retrievers import ranks_of
from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.text.units import Unit
from wiki_index.build import build
from wiki_index.corpus import Corpus
from wiki_index.plan import Plan

PLANETS = ["Mercury", "Venus", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune", "Ceres"]
ROW = {"id": 1, "prompt": "Which has the moon Titan?", "A": "Saturn", "B": "Mars", "C": "Venus"}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return Encoder(str(tiny_model(tmp_path_factory.mktemp("other"))), device="cpu")


@pytest.fixture(scope="module")
def index(encoder, other, tmp_path_factory):
    folder = tmp_path_factory.mktemp("planets")
    with (folder / "c.jsonl").open("w") as file:
        for n, planet in enumerate(PLANETS):
            moons = f"{planet} has {n} moons, Titan{n} is one."
            text = f"{moons} {planet} turns in {n * 7 + 9} hours. {planet} is a world."
            file.write(json.dumps({"title": planet, "text": text}) + "\n")
    encoders = {"minilm": encoder, "tiny": other}
    build(Plan(Corpus.open(folder / "c.jsonl"), folder / "index", encoders, Unit("sentence"), lexical=True))
    return Index(folder / "index")


def cosines(encoder, queries, index):
    texts = [index.passages[row].text for row in range(len(index))]
    return encoder.encode_queries(queries).astype(float) @ encoder.encode_passages(texts).T.astype(float)


@pytest.mark.parametrize("merge", MERGES)
def test_the_weighted_mean_is_that_of_all_passages_computed_by_hand(index, encoder, other, merge):
    weights = {"minilm": 0.5, "tiny": 0.2, "bm25": 0.6}
    settings = ContextSettings(
        retrievers=weights, hits=50, keep=5, near_duplicate=0, merge=merge, neighbours=0
    )
    questions = Questions.from_rows([ROW], "test")
    found = Retriever(index, encoder, settings, {"tiny": other})(questions)[0].shared.evidence
    texts = [query.text for query in queries_of(questions, settings.forms, settings.instruction_forms)[0]]
    words = np.stack([index.lexical().scores(text, np.arange(len(index))) for text in texts])
    parts = {
        "minilm": cosines(encoder, texts, index),
        "tiny": cosines(other, texts, index),
        "bm25": words / words.max(axis=1, keepdims=True),
    }
    fused = sum(weight * parts[name] for name, weight in weights.items()) / sum(weights.values())
    scores = fused.max(axis=0) if merge == "best" else (fused.max(axis=0) + fused.mean(axis=0)) / 2
    order = np.argsort(-scores)[:5]
    assert [piece.row for piece in found] == order.tolist()
    assert np.allclose([piece.score for piece in found], scores[order], atol=1e-5)
    assert all("minilm" in piece.retriever for piece in found)


def test_words_find_what_the_vectors_miss_and_the_evidence_says_so(index, encoder):
    rows = [{"id": 1, "prompt": "Titan5", "A": "or not", "B": "or so"}]
    settings = ContextSettings(retrievers={"bm25": 1.0}, hits=1, forms=("each",), neighbours=0)
    found = Retriever(index, encoder, settings)(Questions.from_rows(rows, "test"))[0].shared.evidence
    assert found[0].text.startswith("Uranus has 5 moons") and found[0].retriever == "bm25"
    query = encoder.encode_queries([f"Titan5 {rows[0][found[0].query]}"])
    gap = np.linalg.norm(query - index.vectors(np.array([found[0].row])), axis=1)
    assert found[0].distance == pytest.approx(float(gap[0]), abs=1e-6)


def test_exact_search_finds_what_the_index_finds(index, encoder):
    questions = Questions.from_rows([ROW], "test")
    found = [
        Retriever(index, encoder, ContextSettings(exact=exact))(questions)[0].shared.evidence
        for exact in (False, True)
    ]
    assert [piece.row for piece in found[0]] == [piece.row for piece in found[1]]


def test_a_question_whose_words_stand_nowhere_is_answered_by_the_vectors_alone(index, encoder):
    rows = [{"id": 1, "prompt": "zyx", "A": "wvu", "B": "tsr"}]
    both = ContextSettings(retrievers={"minilm": 1, "bm25": 1})
    found = Retriever(index, encoder, both)(Questions.from_rows(rows, "test"))[0].shared.evidence
    assert found and {piece.retriever for piece in found} == {"minilm"}
    words = ContextSettings(retrievers={"bm25": 1})
    nothing = Retriever(index, encoder, words)(Questions.from_rows(rows, "test"))[0].shared
    assert nothing.evidence == () and nothing.text == ""


def test_reciprocal_ranks_are_those_of_the_paper():
    hits = np.array([[7, 3, -1], [3, 9, 7]])
    rows = np.array([3, 7, 9])
    ranks = ranks_of(hits, rows)
    assert ranks.tolist() == [[2, 1, np.inf], [1, 3, 2]]
    opinions = [
        RetrieverScores(1.0, np.zeros((2, 3)), ranks),
        RetrieverScores(0.5, np.zeros((2, 3)), ranks[::-1]),
    ]
    expected = [
        [1 / 62 + 0.5 / 61, 1 / 61 + 0.5 / 63, 0.5 / 62],
        [1 / 61 + 0.5 / 62, 1 / 63 + 0.5 / 61, 1 / 62],
    ]
    assert np.allclose(FUSIONS["rrf"](opinions), expected)


def test_a_retriever_that_the_index_does_not_have_is_named(index, encoder):
    with pytest.raises(ConfigError, match=r"'e5'[\s\S]*minilm, tiny, bm25"):
        Retriever(index, encoder, ContextSettings(retrievers={"e5": 1.0}))


def test_a_cross_encoder_orders_the_best_candidates_and_the_rest_stay_behind(index, encoder, tmp_path):
    model = CrossEncoder(str(tiny_cross_encoder(tmp_path)), device="cpu")
    questions = Questions.from_rows([ROW], "test")
    settings = ContextSettings(hits=30, keep=12, near_duplicate=0, neighbours=0)
    plain = Retriever(index, encoder, settings)(questions)[0].shared.evidence
    reread = Retriever(index, encoder, settings.model_copy(update={"rerank": 5}), reranker=model)
    found = reread(questions)[0].shared.evidence
    query = f"{ROW['prompt']} Saturn Mars Venus"
    scores = model.scores([query] * 5, [piece.text for piece in plain[:5]])
    assert [piece.row for piece in found[:5]] == [plain[i].row for i in np.argsort(-scores, kind="stable")]
    assert np.allclose([piece.score for piece in found[:5]], np.sort(scores)[::-1], atol=1e-6)
    assert [piece.row for piece in found[5:]] == [piece.row for piece in plain[5:]]
    # Each option's context is read with that option.
    per = ContextSettings(per="option", hits=30, keep=3, rerank=50, near_duplicate=0, neighbours=0)
    option = Retriever(index, encoder, per, reranker=model)(questions)[0].by_option[1].evidence
    texts = [index.passages[row].text for row in range(len(index))]
    every = model.scores([f"{ROW['prompt']} Mars"] * len(texts), texts)
    assert [piece.row for piece in option] == np.argsort(-every, kind="stable")[:3].tolist()
