"""What the retriever finds, against a brute force over every row of the index."""

import json

import numpy as np
import pytest

from kaggle_rag.config import ContextSettings
from kaggle_rag.data.contexts import OWN
from kaggle_rag.data.questions import Questions
from kaggle_rag.index.index import Index
from kaggle_rag.retrieval import retriever
from kaggle_rag.retrieval.queries import PROMPT_CHARACTERS, queries_of
from kaggle_rag.retrieval.retriever import Retriever
from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.text.units import Unit
from wiki_index.build import build
from wiki_index.corpus import Corpus
from wiki_index.plan import Plan

METALS = ["Iron", "Gold", "Zinc", "Lead", "Tin", "Copper"]
ROWS = [
    {"id": 1, "prompt": "Which metal melts first?", "A": "Tin", "B": "Gold", "C": "Iron"},
    {"id": 2, "prompt": "Name the metal of coins.", "A": "Gold", "B": None, "C": "Zinc",
     "is_question": False},
    {"id": 3, "prompt": "What is a zorg?", "A": "a fish", "B": "a bird", "context": "A zorg is a fish."},
]  # fmt: skip


@pytest.fixture(scope="module")
def index(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("metals")
    with (folder / "c.jsonl").open("w") as file:
        for n, m in enumerate(METALS):
            text = f"{m} melts at {n * 90 + 232} °C. {m} is used for coins. {m} is a metal. {m} is a metal."
            file.write(json.dumps({"title": m, "text": text}) + "\n")
    build(Plan(Corpus.open(folder / "c.jsonl"), folder / "index", {"minilm": encoder}, Unit("sentence")))
    return Index(folder / "index")


def find(index, encoder, rows, **settings):
    return Retriever(index, encoder, ContextSettings(**settings))(Questions.from_rows(rows, "test"))


def test_without_inverted_lists_there_are_none_to_visit(index, encoder):
    with pytest.raises(ConfigError, match="no inverted lists to visit") as told:
        find(index, encoder, ROWS, nprobe=4)
    assert "contexts.nprobe" in str(told.value) and "--index ivf-sq8" in str(told.value)


def test_the_nearest_evidence_is_that_of_a_brute_force_over_all_rows(index, encoder):
    everything = index.vectors(np.arange(len(index))).astype(float)
    for per in ("question", "option"):
        found = find(index, encoder, ROWS[:1], per=per, hits=6, near_duplicate=0.0)[0]
        for column, option in enumerate("ABC"):
            asked = [f"{ROWS[0]['prompt']} {ROWS[0][option]}"]
            if per == "question":
                asked = [f"{ROWS[0]['prompt']} {end}" for end in ("Tin Gold Iron", "Tin", "Gold", "Iron")]
            queries = encoder.encode_queries(asked).astype(float)
            brute = np.sqrt(((queries[:, None] - everything[None]) ** 2).sum(axis=2)).min(axis=0)
            # The second 'is a metal.' of each article is an equal vector, dropped.
            brute = np.delete(brute, np.arange(3, len(brute), 4))
            distances = [piece.distance for piece in found.of(column).evidence]
            assert np.allclose(distances[:4], np.sort(brute)[:4], atol=1e-6)
            assert distances == sorted(distances)


def test_equal_sentences_stand_once(index, encoder):
    texts = [piece.text for piece in find(index, encoder, ROWS[:1], hits=24, keep=50)[0].evidence()]
    assert len(texts) > 5 and len(texts) == len(set(texts))


def test_a_question_is_answered_alike_in_any_batch(index, encoder, monkeypatch):
    together = find(index, encoder, ROWS)
    monkeypatch.setattr(retriever, "BATCH", 1)
    for left, right in zip(together, find(index, encoder, ROWS)):
        assert left.shared.text == right.shared.text
        assert [e.row for e in left.evidence()] == [e.row for e in right.evidence()]


def test_neighbours_are_of_the_same_article(index, encoder):
    context = find(index, encoder, ROWS[:1], neighbours=3, keep=4)[0].shared
    for line in context.text.split("\n"):
        title = line.partition(": ")[0]
        assert title in METALS and not any(m in line for m in METALS if m != title)


@pytest.mark.parametrize("tokens", [16, 25, 40, 90, 384])
def test_no_context_exceeds_its_tokens(tokens, index, encoder):
    for per in ("question", "option"):
        for found in find(index, encoder, ROWS, per=per, tokens=tokens):
            texts = [context.text for context in (found.by_option or (found.shared,)) if context]
            assert texts and encoder.count_tokens(texts).max() <= tokens


def test_an_absent_option_keeps_its_letter_and_asks_nothing():
    questions = Questions.from_rows(ROWS, "test")
    asked = queries_of(questions, ("all", "each"), ("all", "each", "option"))
    assert [(q.form, q.option, q.text) for q in asked[1]] == [
        ("all", None, "Name the metal of coins. Gold Zinc"),
        ("A", 0, "Name the metal of coins. Gold"), ("C", 2, "Name the metal of coins. Zinc"),
        ("bare A", 0, "Gold"), ("bare C", 2, "Zinc"),
    ]  # fmt: skip
    assert [q.form for q in asked[0]] == ["all", "A", "B", "C"]


def test_of_a_long_prompt_the_end_is_asked():
    row = {**ROWS[0], "prompt": "x" * 5000 + " which?"}
    (asked,) = queries_of(Questions.from_rows([row], "test"), ("each",), ("each",))
    assert all("which? " in q.text and len(q.text) < PROMPT_CHARACTERS + 10 for q in asked)


def test_an_absent_option_has_no_context_and_the_others_their_own(index, encoder):
    found = find(index, encoder, ROWS[1:2], per="option", keep=2)[0]
    assert found.of(1) is None and "Gold" in found.of(0).text and "Zinc" in found.of(2).text
    assert any(e.query.startswith("bare") for e in found.evidence())


def test_questions_that_all_bring_a_context_need_no_search(index, encoder, monkeypatch):
    monkeypatch.setattr(Index, "vectors", None)
    found = find(index, encoder, ROWS[2:])[0]
    assert found.shared.text == "A zorg is a fish." and found.evidence()[0].article_id == OWN
    monkeypatch.undo()
    assert find(index, encoder, ROWS[2:], own="ignore")[0].evidence()[0].article_id != OWN


@pytest.mark.parametrize("own", ["Zorg\n" * 300, "zorg " * 300, "One zorg. " * 300])
def test_a_long_context_of_its_own_is_cut_whatever_it_is_made_of(own, index, encoder):
    found = find(index, encoder, [{**ROWS[2], "context": own}], tokens=32)[0].shared
    assert found.text and encoder.count_tokens([found.text])[0] <= 32
