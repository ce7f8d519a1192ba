"""Scores of answers in words: cases worked by hand from the official evaluations, and brute force."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_rag.evaluation.answers import (
    bert_score,
    contains,
    exact_match,
    inverse_frequencies,
    token_f1,
    tokens_of,
    unsupported,
)

# The question of the paragraph on the Super Bowl in SQuAD 1.1, and three annotators' answers.
DENVER = ["Denver Broncos", "Denver Broncos", "The Denver Broncos!"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The  Denver\nBroncos!", ["denver", "broncos"]),
        ("An apple a day", ["apple", "day"]),
        # Punctuation goes before articles do: a.m. is one token, and so is U.S.
        ("10 a.m. in the U.S.", ["10", "am", "in", "us"]),
        ("theatre-goers' anthem", ["theatregoers", "anthem"]),
        # Only ASCII punctuation is punctuation there.
        ("“quoted” – 1,085 °C", ["“quoted”", "–", "1085", "°c"]),
        ("The.", []),
    ],
)
def test_tokens_are_those_of_the_official_normalisation(text, tokens):
    assert tokens_of(text) == tokens


@pytest.mark.parametrize(
    ("answer", "golds", "em", "f1"),
    [
        ("the denver broncos", DENVER, 1, 1),
        # 2 of 3 tokens are shared: precision 2/3, recall 1.
        ("Denver Broncos team", DENVER, 0, 0.8),
        ("Broncos", DENVER, 0, 2 / 3),
        ("Carolina Panthers", DENVER, 0, 0),
        # A token counts as often as both have it: precision 1/3, recall 1/2.
        ("new new new", ["new york"], 0, 0.4),
        # The best right answer counts.
        ("gold", ["golden", "gold or silver"], 0, 0.5),
        # No answer is right (SQuAD 2.0), and only that.
        ("", [""], 1, 1),
        ("something", [""], 0, 0),
        ("", ["something"], 0, 0),
        ("a", [""], 1, 1),
        # A right answer that normalisation leaves empty does not make an empty answer right.
        ("", ["The", "who"], 0, 0),
        ("", ["The"], 1, 1),
    ],
)
def test_exact_match_and_f1_are_those_worked_by_hand(answer, golds, em, f1):
    assert exact_match(answer, golds) == em
    assert token_f1(answer, golds) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("answer", "golds", "right"),
    [
        ("It was the Denver Broncos, I think.", DENVER, 1),
        ("Broncos of Denver", DENVER, 0),
        ("often", ["ten"], 0),
        ("ten", ["ten of them", "ten"], 1),
        ("", [""], 1),
        ("unknown", [""], 0),
    ],
)
def test_an_answer_is_right_that_holds_a_right_one_in_whole_tokens(answer, golds, right):
    assert contains(answer, golds) == right


def test_what_no_snippet_holds_is_counted():
    snippets = ["Phobos: Phobos is the larger moon", "of Mars."]
    assert unsupported("The moon Phobos", snippets) == 0
    # deimos and smaller of four tokens; the article is none.
    assert unsupported("Deimos, the smaller moon of", snippets) == 0.5
    assert unsupported("Deimos", []) == 1
    assert math.isnan(unsupported("the", snippets))


def test_a_question_without_a_right_answer_is_not_scored_silently():
    with pytest.raises(ValueError, match="right answer"):
        exact_match("a", [])


def test_a_score_worked_by_hand():
    gold = np.array([[1, 0], [0, 1]], np.float32)
    answer = np.array([[1, 0], [0.6, 0.8], [-1, 0]], np.float32)
    # Best cosines of the answer's tokens: 1, 0.8, 0; of the right answer's: 1, 0.8.
    precision, recall, f1 = bert_score(answer, gold)
    assert (precision, recall) == (pytest.approx(0.6), pytest.approx(0.9))
    assert f1 == pytest.approx(2 * 0.6 * 0.9 / 1.5)
    weighed = bert_score(answer, gold, np.array([0.0, 1, 1]), np.array([3.0, 1]))
    assert weighed.precision == pytest.approx(0.4) and weighed.recall == pytest.approx(0.95)


def test_texts_without_tokens_match_only_one_another():
    nothing, something = np.zeros((0, 0), np.float32), np.eye(2, dtype=np.float32)
    assert bert_score(nothing, nothing) == (1, 1, 1)
    assert bert_score(nothing, something) == bert_score(something, nothing) == (0, 0, 0)


def matched(one, other, weights):
    """Zhang et al. 2020, equation 1 with idf, loop by loop."""
    total = 0.0
    for weight, token in zip(weights, one):
        total += weight * max(sum(float(a) * float(b) for a, b in zip(token, t)) for t in other)
    return total / sum(weights)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))
def test_scores_are_those_of_brute_force(rows, columns, seed):
    rng = np.random.default_rng(seed)
    texts = [rng.standard_normal((count, 4)) for count in (rows, columns)]
    answer, gold = (np.float32(x / np.linalg.norm(x, axis=1, keepdims=True)) for x in texts)
    weights = [rng.random(count) + 0.1 for count in (rows, columns)]
    for own in (weights, [np.ones(rows), np.ones(columns)]):
        precision, recall, f1 = bert_score(answer, gold, *own)
        assert precision == pytest.approx(matched(answer, gold, own[0]), abs=1e-5)
        assert recall == pytest.approx(matched(gold, answer, own[1]), abs=1e-5)
        assert f1 == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-5)


def test_rare_tokens_weigh_more():
    weights = inverse_frequencies([[1, 2, 2], [1, 3], [1]])
    assert [weights[token] for token in (1, 2, 3, 9)] == pytest.approx(
        [0, math.log(2), math.log(2), math.log(4)]
    )
    # What every right answer holds weighs nothing; a text of nothing else is compared all the same.
    one = np.eye(2, dtype=np.float32)[:1]
    assert bert_score(one, one, np.zeros(1), np.zeros(1)).f1 == 1
