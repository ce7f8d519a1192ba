"""Pairs of many questions read together score as each question's own, read alone."""

import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_toys import tiny_cross_encoder

from kaggle_rag.config import ContextSettings
from kaggle_rag.data.questions import Questions
from kaggle_rag.index.index import Index
from kaggle_rag.retrieval import retriever
from kaggle_rag.retrieval.crossencoder import CrossEncoder
from kaggle_rag.retrieval.rereading import ContextQueries, reread
from kaggle_rag.retrieval.retriever import Retriever

ROWS = [
    {"id": n, "prompt": prompt, "A": "two", "B": "five", "C": last, "context": own}
    for n, (prompt, last, own) in enumerate(
        [
            ("How many moons has Mars?", "a dozen or more", None),
            ("eyes?", None, None),
            ("A long question about how copper, a metal that conducts well, melts " * 3, "never", None),
            ("What is a zorg?", "fish", "A zorg is a fish. It has two fins. It sleeps by day."),
            ("eyes?", None, None),
        ]
    )
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return CrossEncoder(str(tiny_cross_encoder(tmp_path_factory.mktemp("pairs"))), device="cpu")


def found(facts_index, encoder, model, rows, per, **more):
    settings = ContextSettings(per=per, hits=8, keep=8, rerank=4, near_duplicate=0, neighbours=0, **more)
    return Retriever(Index(facts_index), encoder, settings, reranker=model)(Questions.from_rows(rows, "test"))


@pytest.mark.parametrize("per", ["question", "option"])
def test_together_and_alone_give_the_same_evidence_and_scores(facts_index, encoder, model, per, monkeypatch):
    calls, own = [], CrossEncoder.scores

    def watched(self, queries, passages, **more):
        calls.append(list(zip(queries, passages)))
        return own(self, queries, passages, **more)

    monkeypatch.setattr(CrossEncoder, "scores", watched)
    together = found(facts_index, encoder, model, ROWS, per)
    assert len(calls) == 1 and len(calls[0]) == len(set(calls[0])) > 10
    alone = [found(facts_index, encoder, model, [row], per)[0] for row in ROWS]
    assert len(calls) == 1 + len(ROWS)
    for left, right in zip(together, alone):
        assert len(left.by_option) == len(right.by_option)
        for a, b in zip(left.by_option or [left.shared], right.by_option or [right.shared]):
            assert (a is None) == (b is None)
            if a is not None:
                assert a.text == b.text and [e.row for e in a.evidence] == [e.row for e in b.evidence]
                scores = np.array([[e.score for e in c.evidence] for c in (a, b)])
                assert scores.shape[1] >= 3 and np.abs(scores[0] - scores[1]).max() < 1e-5


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.integers(1, 9), st.data())
def test_both_orders_are_merged_by_their_reciprocal_ranks(said, most, data):
    """By hand: the ``most`` best of the retrievers, each with 1 / (60 + rank) of both orders."""

    class Scorer:
        def scores(self, queries, passages, on_rows=None):
            return np.array([said[int(text)] for text in passages], np.float32)

    own = np.array(data.draw(st.permutations(range(len(said)))), dtype=np.float64)
    candidates = types.SimpleNamespace(text=str)
    (merged,) = reread(Scorer(), [ContextQueries([], candidates, "q")], [own], most, merged=True)
    first = sorted(range(len(said)), key=lambda at: -own[at])
    read = sorted(first[:most], key=lambda at: -said[at])
    expected = {at: 1 / (61 + first.index(at)) + 1 / (61 + read.index(at)) for at in read}
    assert {at: merged[at] for at in read} == pytest.approx(expected)
    order = sorted(range(len(said)), key=lambda at: -merged[at])
    assert set(order[: len(read)]) == set(read) and order[len(read) :] == first[most:]


def test_the_setting_decides_how_a_reranker_s_order_counts(facts_index, encoder, model):
    orders = {
        how: [e.row for each in found(facts_index, encoder, model, ROWS, "question", reranked=how)
              for e in each.shared.evidence]
        for how in ("alone", "merged")
    }  # fmt: skip
    assert orders["alone"] != orders["merged"] and sorted(orders["alone"])[:3] == sorted(orders["merged"])[:3]


@pytest.mark.parametrize(("per", "asked"), [
    ("question", ["eyes? two five"]), ("option", ["eyes? two", "eyes? five"]),
])  # fmt: skip
@pytest.mark.parametrize("forms", [("each",), ("option", "all"), ("all", "each")])
def test_a_question_is_read_with_its_options_whatever_was_searched_for(
    facts_index, encoder, model, monkeypatch, forms, per, asked
):
    read, own = [], CrossEncoder.scores
    monkeypatch.setattr(CrossEncoder, "scores", lambda self, q, p, **more: read.extend(q) or own(self, q, p))
    settings = ContextSettings(forms=forms, per=per, hits=4, keep=4)
    questions = Questions.from_rows([{"id": 1, "prompt": "eyes?", "A": "two", "B": "five"}], "test")
    Retriever(Index(facts_index), encoder, settings, reranker=model)(questions)
    assert [*dict.fromkeys(read)] == asked


def test_the_evidence_is_the_same_however_many_questions_are_read_at_once(
    facts_index, encoder, model, monkeypatch
):
    rows = [row | {"id": n} for n, row in enumerate(ROWS * 3)]
    together = found(facts_index, encoder, model, rows, "question")
    monkeypatch.setattr(retriever, "_REREAD", 2)
    for left, right in zip(together, found(facts_index, encoder, model, rows, "question"), strict=True):
        assert [e.row for e in left.evidence()] == [e.row for e in right.evidence()]
        gaps = [abs(a.score - b.score) for a, b in zip(left.evidence(), right.evidence())]
        assert len(gaps) >= 3 and max(gaps) < 1e-5


def test_a_question_without_candidates_beside_others_has_no_evidence(facts_index, encoder, model):
    rows = [ROWS[0], {"id": 9, "prompt": "zyx", "A": "wvu", "B": "tsr", "context": "***"}, ROWS[1]]
    first, empty, last = found(facts_index, encoder, model, rows, "question")
    assert empty.shared.evidence == () and first.evidence() and last.evidence()
