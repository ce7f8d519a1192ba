"""What is mined, against a brute force over all cosines; who is held out; what a batch may hold."""

import csv
import dataclasses

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_rag.runtime.errors import InputError
from kaggle_rag.text.normalise import same
from training.retrieval.corpus import ListedPassages, nearest, read_passages
from training.retrieval.mining import mine_negatives, mine_positives, support
from training.retrieval.queries import draw, read_queries, split, without
from training.retrieval.trainer import DistinctBatches, SeededBatches

FACTS = [
    "iron rusts in wet air", "gold does not rust", "a magnet attracts iron", "bees pollinate flowers",
    "birds pollinate flowers too", "the moon reflects sunlight", "plants need sunlight to grow",
    "rust is iron oxide", "a compass needle is a magnet", "water boils at high heat",
]  # fmt: skip
ROWS = [
    dict(zip(("id", "prompt", "A", "B", "C", "answer"), row))
    for row in [
        ("1", "What pollinates flowers?", "stones", "bees", "the moon", "B"),
        ("2", "Which metal is attracted?", "iron", "gold", "paper", "A"),
        ("3", "What do plants need?", "quartz", "basalt", "gneiss", "C"),
    ]
]


@pytest.fixture
def questions(tmp_path):
    with (tmp_path / "q.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)
    return read_queries(tmp_path / "q.csv", None, ("all", "each"))


def test_support_is_the_share_of_the_options_words():
    assert support("Iron oxide", "rust is iron oxide") == 1.0
    assert support("iron ore", "rust is iron oxide") == 0.5
    assert support("iro", "rust is iron oxide") == 0.0 and support("?", "rust") == 0.0


def test_no_query_says_which_option_is_right(questions):
    assert questions[0].forms == (
        ("What pollinates flowers? stones bees the moon",),
        tuple(f"What pollinates flowers? {option}" for option in ("stones", "bees", "the moon")),
    )
    drawn = draw(questions[:1] * 2000, 1, 0)
    shares = {query: sum(query == each for _, each in drawn) / 2000 for query in {q for _, q in drawn}}
    # Both forms alike, and within the second form every option alike: the right one is not preferred.
    assert shares[questions[0].forms[0][0]] == pytest.approx(1 / 2, abs=0.05)
    assert all(shares[query] == pytest.approx(1 / 6, abs=0.04) for query in questions[0].forms[1])


def test_the_nearest_supporting_passage_is_the_positive(questions, encoder):
    found = mine_positives(questions, ListedPassages(FACTS, encoder), 10, 1.0)
    # 'iron' stands in four facts; the nearest to prompt and answer is taken. Gneiss stands in none.
    assert [question.id for question in found] == ["1", "2"]
    assert found[0].positive == FACTS[0 + 3]
    asked = encoder.encode_queries(["Which metal is attracted? iron"])
    holding = [fact for fact in FACTS if "iron" in fact.split()]
    assert found[1].positive == holding[int((encoder.encode_passages(holding) @ asked[0]).argmax())]


def test_a_passage_that_holds_a_wrong_option_as_well_supports_nothing(questions, encoder):
    both = ["bees and stones and the moon pollinate flowers"]
    assert mine_positives(questions, ListedPassages(both, encoder), 5, 1.0) == []


def test_hard_negatives_are_those_of_a_brute_force(questions, encoder):
    corpus = ListedPassages(FACTS, encoder)
    found = mine_positives(questions, corpus, 10, 1.0)
    asked = draw(found, 4, 0)
    examples = mine_negatives(found, asked, corpus, count=3, depth=10, margin=0.95, least=1.0, seed=0)
    vectors = encoder.encode_passages(FACTS)
    hard = 0
    for (number, query), example in zip(asked, examples):
        question = found[number]
        cosines = vectors @ encoder.encode_queries([query])[0]
        top = 0.95 * cosines[FACTS.index(question.positive)]
        right = question.right.lower()
        expected = [
            FACTS[row] for row in np.argsort(-cosines)
            if cosines[row] <= top and right not in FACTS[row].split() and FACTS[row] != question.positive
        ][:3]  # fmt: skip
        assert example.query == query and example.positive == question.positive
        assert list(example.negatives[: len(expected)]) == expected
        assert not any(right in text.split() for text in example.negatives)
        assert len(set(example.negatives)) == len(example.negatives)
        hard += len(expected)
    assert hard > 0


def test_the_nearest_by_all_cosines():
    rng = np.random.default_rng(0)
    queries, passages = rng.normal(size=(700, 8)), rng.normal(size=(50, 8))
    cosines, rows = nearest(queries.astype(np.float32), passages.astype(np.float32), 5)
    assert (rows == np.argsort(-(queries @ passages.T), axis=1)[:, :5]).all()
    assert cosines.shape == (700, 5) and (np.diff(cosines, axis=1) <= 0).all()


def test_questions_of_one_positive_are_held_out_together(questions):
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice([*"bdfgklmnrst"], 6)) for _ in range(2000)]
    many = [
        dataclasses.replace(
            questions[0], id=str(i), prompt=" ".join(words[10 * i : 10 * i + 7]),
            options=tuple(words[10 * i + 7 : 10 * i + 10]), positive=f"Fact {i % 20}",
        )
        for i in range(200)
    ]  # fmt: skip
    learnt, held = split(many, 0.25, 0)
    assert len(held) == 50 and len(learnt) == 150
    assert not {x.positive for x in learnt} & {x.positive for x in held}
    assert split(many, 0.25, 1)[1] != held and split(many, 0.0, 0) == (many, [])
    # The same question again, with another positive, follows its twin.
    twins = [*many, *(dataclasses.replace(x, id="t" + x.id, positive=f"Other {x.id}") for x in many)]
    learnt, held = split(twins, 0.25, 0)
    assert held and not {x.prompt for x in learnt} & {x.prompt for x in held}


def test_questions_of_another_file_are_not_learnt_from(questions, tmp_path):
    (tmp_path / "dev.csv").write_text("id,prompt,A,B\nx,what  POLLINATES flowers?,a,b\n")
    assert [x.id for x in without(questions, [tmp_path / "dev.csv"])] == ["2", "3"]


def test_passages_are_read_from_lines_or_a_column_and_stand_once(tmp_path, encoder):
    (tmp_path / "f.txt").write_text("iron rusts\n\n Iron  rusts \ngold\n")
    assert read_passages(tmp_path / "f.txt") == ["iron rusts", "Iron  rusts", "gold"]
    assert len(ListedPassages(read_passages(tmp_path / "f.txt"), encoder)) == 2
    (tmp_path / "f.jsonl").write_text('{"text": "tin"}\n{"text": ""}\n')
    assert read_passages(tmp_path / "f.jsonl") == ["tin"]
    (tmp_path / "g.csv").write_text("passage\ntin\n")
    with pytest.raises(InputError, match="column 'text' is missing"):
        read_passages(tmp_path / "g.csv")
    (tmp_path / "e.txt").write_text("\n")
    with pytest.raises(InputError, match="no passages"):
        read_passages(tmp_path / "e.txt")


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=30, max_size=80), st.integers(0, 3))
def test_no_passage_of_a_batch_is_the_answer_of_two_rows(pairs, epoch):
    pairs = [(a, b) for a, b in pairs if a != b] + [(i, (i + 1) % 10) for i in range(10)]
    data = Dataset.from_dict({
        "query": [f"q{i}" for i in range(len(pairs))], "positive": [f"P{a}" for a, _ in pairs],
        "negative_1": [f"p{b} " for _, b in pairs],
    })  # fmt: skip
    for size, strict in ((3, True), (10, False)):
        sampler = DistinctBatches(data, batch_size=size, drop_last=True, seed=5)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler) == len(pairs) // size and all(len(b) == size for b in batches)
        for batch in batches:
            answers = [pairs[row][0] for row in batch]
            assert len(set(answers)) == size
            if strict:
                assert all(pairs[row][1] not in set(answers) for row in batch)
        again = DistinctBatches(data, batch_size=size, drop_last=True, seed=5)
        again.set_epoch(epoch)
        assert list(again) == batches


def test_shuffled_batches_hold_each_row_once_and_differ_by_epoch():
    data = Dataset.from_dict({"query": list("abcdefghij")})
    sampler = SeededBatches(data, batch_size=3, drop_last=True, seed=1)
    first = list(sampler)
    assert len(first) == len(sampler) == 3 and len({row for batch in first for row in batch}) == 9
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert same("A  b") == same("a B ")
