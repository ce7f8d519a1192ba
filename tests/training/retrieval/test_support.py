"""Which passages support an answer: against asking about one at a time, and as what a training reads."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from training_toys import WORDS, questions, toy

from kaggle_rag.data.contexts import Context, Evidence, QuestionContexts, Snippet, write_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.rankers.similarity import SimilarityRanker
from kaggle_rag.runtime.errors import InputError
from training.retrieval.cross_encoder import train_reranker
from training.retrieval.dataset import make_dataset
from training.retrieval.mining import Example
from training.retrieval.settings import RerankerSettings, RetrieverSettings
from training.retrieval.support import read_support, supported, with_others, write_support
from training.retrieval.teacher import soft_labels

ROWS = [
    {"id": "m", "prompt": "Which metal melts first?", "A": "tin", "B": "iron", "C": "gold", "answer": "A"},
    {"id": "s", "prompt": "What do plants take in?", "A": "oxygen", "B": "carbon dioxide", "answer": "B"},
    {"id": "n", "prompt": "What is a zorg?", "A": "a fish", "B": "a bird", "answer": "A"},
]
PASSAGES = [
    ["Iron melts at 1538 degrees.", "Tin melts first of all metals, at 232 degrees.", "Cats sleep."],
    ["Plants take in carbon dioxide.", "Plants give off oxygen.", "Plants take in carbon dioxide."],
    ["A zorg is a bird."],
]


def context(texts):
    pieces = tuple(Evidence("a", "T", n, text, 1.0, "all", 1 - n / 10, "m") for n, text in enumerate(texts))
    snippets = tuple(Snippet("T", each.text, each.score, (each.row,)) for each in pieces)
    return QuestionContexts(Context(snippets, pieces), ())


def one_by_one(ranker, table, row, text):
    pieces = () if text is None else context([text]).shared.evidence
    snippets = tuple(Snippet("", each.text, each.score, (0,)) for each in pieces)
    found = ranker.probabilities(table.take([row]), [QuestionContexts(Context(snippets, pieces), ())])
    return float(found[0, table.answers[row]])


def test_a_passage_is_as_good_as_the_answer_that_it_leads_to(encoder, tmp_path):
    table, contexts = Questions.from_rows(ROWS, "test"), [context(texts) for texts in PASSAGES]
    with SimilarityRanker(encoder) as ranker:
        found = {each.id: each for each in supported(ranker, table, contexts)}
        for row, texts in enumerate(PASSAGES):
            values = {text: one_by_one(ranker, table, row, text) for text in texts}
            best = max(values.values())
            helped = best > one_by_one(ranker, table, row, None)
            assert (ROWS[row]["id"] in found) == helped
            if helped:
                each = found[ROWS[row]["id"]]
                assert each.passages == sorted(values, key=lambda text: -values[text])
                np.testing.assert_allclose(each.scores, [values[t] / best for t in each.passages], atol=1e-5)
        # The only passage about a zorg speaks against the answer.
        assert set(found) == {"m", "s"} and found["m"].passages[0].startswith("Tin melts")
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "q.parquet")
        write_contexts(tmp_path / "c.parquet", Questions.read(tmp_path / "q.parquet"), contexts, {})
        report = write_support(ranker, tmp_path / "q.parquet", tmp_path / "c.parquet", tmp_path / "s.parquet")
    assert (report.questions, report.helped, report.passages) == (3, 2, 5)
    assert read_support(tmp_path / "s.parquet") == {key: each.passages for key, each in found.items()}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("supported")
    given = toy(folder)
    given["questions"] = questions(folder / "some.csv", 4, 0)
    read = Questions.read(given["questions"])
    rows = []
    for number, key in enumerate(read.ids[:-3]):
        # The best passage first, then two that support less.
        for place, score in ((0, 1.0), (1, 0.6), (5, 0.1)):
            passage = WORDS[(number + place) % len(WORDS)]
            rows.append({"id": key, "passage": passage, "score": score})
    pq.write_table(pa.Table.from_pylist(rows), folder / "support.parquet")
    return {**given, "supported": folder / "support.parquet"}, rows


def test_a_training_takes_its_positives_negatives_and_labels_from_it(task):
    given, rows = task
    listed = {"held_out": 0, "loss": "listnet", "negatives": 3}
    settings = RerankerSettings(**{**given, "validation": None}, out="o", **listed)
    examples = make_dataset(settings).examples
    by_id = {}
    for row in rows:
        by_id.setdefault(row["id"], []).append(row["passage"])
    assert {each.id for each in examples} == set(by_id)
    for each in examples:
        best, *others = by_id[each.id]
        assert each.positive == best and list(each.negatives[:2]) == others and len(each.negatives) == 3
        assert best not in each.negatives


def test_no_spelling_of_the_positive_is_a_negative():
    example = Example("1", "q", "Iron is a metal.", ("x", "Gold  SHINES"))
    found = {"1": ["Iron is a metal.", "iron is  a metal.", "Gold shines", "Tin bends"]}
    (made,) = with_others([example], found, 3)
    assert made.negatives == ("Gold shines", "Tin bends", "x")


def test_a_listwise_reranker_learns_what_the_answers_support(task, tmp_path):
    given, rows = task
    settings = RerankerSettings(
        **{**given, "validation": None}, out=tmp_path / "out", held_out=0, loss="listnet", negatives=3,
        batch=8, epochs=1, evaluations=1,
    )  # fmt: skip
    record = train_reranker(settings)
    assert record["result"]["steps"] == len({row["id"] for row in rows}) // 8
    assert record["result"]["notes"]["without a positive"] == 3
    assert settings.labels == str(given["supported"])


def test_tables_that_do_not_fit_are_named(task, tmp_path):
    given, rows = task
    with pytest.raises(ValueError, match="choose one"):
        RetrieverSettings(**given, out="o", positive="fact")
    other = tmp_path / "other.parquet"
    pq.write_table(pa.Table.from_pylist([{**rows[0], "id": "nobody"}]), other)
    with pytest.raises(InputError, match=r"none of its 1 id \(such as 'nobody'\) is among the ids of"):
        make_dataset(RetrieverSettings(**{**given, "supported": other}, out="o"))
    # Of every question, the validation set has one that repeats it.
    repeated = {**given, "validation": given["questions"]}
    with pytest.raises(InputError, match="this table has only some that are left out"):
        make_dataset(RetrieverSettings(**repeated, out="o"))
    for damage, message in (({"score": None}, "not a probability"), ({"passage": " "}, "passage is empty")):
        pq.write_table(pa.Table.from_pylist([{**rows[0], **damage}]), other)
        with pytest.raises(InputError, match=message) as told:
            read_support(other)
        assert "row 1, column" in str(told.value)
    bare = tmp_path / "bare.parquet"
    pq.write_table(pa.Table.from_pylist([{"id": "q0-0", "passage": "x"}]), bare)
    with pytest.raises(InputError, match="column 'score' is missing"):
        read_support(bare)


def test_too_few_examples_are_helped_by_what_has_an_effect(task):
    given = {key: value for key, value in task[0].items() if key != "validation"}
    mined = {key: value for key, value in given.items() if key != "supported"}
    listed = f"use more questions that {given['supported']} has"
    for settings, cure in [
        ({**given, "held_out": 0}, f"{listed} or --batch "),
        ({**given, "held_out": 0.3}, f"{listed}, a lower --held-out or --batch "),
    ]:
        with pytest.raises(InputError, match="do not fill a batch of 9999") as told:
            make_dataset(RetrieverSettings(**settings, out="o", batch=9999))
        before, _, batch = str(told.value).partition(cure)
        assert int(batch) <= int(re.search(r"(\d+) examples do not fill", before)[1])
        # It is enough, though each passage may be in a batch only once.
        make_dataset(RetrieverSettings(**settings, out="o", batch=int(batch)))
    # Of no example at all, no batch is small enough.
    with pytest.raises(InputError, match="0 examples do not fill a batch of 64") as told:
        make_dataset(RetrieverSettings(**mined, held_out=0, out="o"))
    assert str(told.value).endswith("use more questions or a lower --support")


def test_scores_that_match_nothing_say_which_half_does_not(tmp_path, capsys):
    examples = [Example("q1", "ask 1", "iron"), Example("q2", "ask 2", "gold", ("tin",))]
    for rows, told in [
        ([("z1", "iron", 0.5), ("z1", "tin", 0.5)], r"none of its 1 id \(such as 'z1'\) .* the 2 questions"),
        ([("q2", "lead", 0.5), ("z9", "gold", 1)], "1 of the 2 questions .* has 'lead', training has 'gold'"),
    ]:
        table = [{"id": key, "passage": text, "score": score} for key, text, score in rows]
        pq.write_table(pa.Table.from_pylist(table), tmp_path / "t.parquet")
        with pytest.raises(InputError, match=told):
            soft_labels(str(tmp_path / "t.parquet"), examples, None)
    one = [{"id": "q2", "passage": "Tin ", "score": 0.2}]
    pq.write_table(pa.Table.from_pylist(one), tmp_path / "t.parquet")
    assert soft_labels(str(tmp_path / "t.parquet"), examples, None) == {("ask 2", "tin"): 0.2}
    assert "has scores of 1 of 3 pairs of a query and a passage" in capsys.readouterr().err
