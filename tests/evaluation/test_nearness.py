import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from kaggle_rag.evaluation.nearness import WordSets, near_by_vectors, near_by_words, plain, words
from kaggle_rag.runtime.errors import ConfigError, InputError


def test_words_keep_numbers_signs_and_operators_and_drop_case_and_punctuation():
    assert words("What's 3.5 + x?") == ["what", "s", "3.5", "+", "x"]
    assert words("−5 °C") == ["−5", "°", "c"]
    assert words("well-known; 5-3") == ["well", "known", "5", "3"]
    assert words("की कि को") == ["की", "कि", "को"]
    assert words("CAFÉ cafe\u0301, H2O_x") == ["café", "café", "h", "2", "o", "x"]
    assert plain("  The SUN. ") == plain("the sun") == "the sun"
    assert plain(" ? ") == "?"


def brute_force(rows, threshold):
    """Weighted Jaccard of all pairs, by Python sets."""
    count = {word: sum(word in set(row) for row in rows) for row in rows for word in row}
    weight = {word: np.log(1 + len(rows) / often) for word, often in count.items()}
    found = {}
    for right, row in enumerate(rows):
        for left, other in enumerate(rows[:right]):
            both, either = set(row) & set(other), set(row) | set(other)
            if either and sum(map(weight.get, both)) / sum(map(weight.get, either)) >= threshold:
                found[left, right] = sum(map(weight.get, both)) / sum(map(weight.get, either))
    return found


def as_dict(near):
    return dict(zip(zip(near.left.tolist(), near.right.tolist()), near.similarity))


ROWS = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=14)


@given(ROWS, st.sampled_from([0.2, 0.5, 0.61, 0.83, 1.0]))
@settings(max_examples=150)
def test_word_pairs_are_those_of_brute_force(rows, threshold):
    found = as_dict(near_by_words(WordSets(rows), threshold))
    # At the very threshold the last bit decides.
    surely, maybe = brute_force(rows, threshold + 1e-7), brute_force(rows, threshold - 1e-7)
    assert set(surely) <= set(found) <= set(maybe)
    assert all(found[pair] == pytest.approx(maybe[pair]) for pair in found)


@given(ROWS, st.integers(0, 14))
@settings(max_examples=50)
def test_pairs_between_two_tables_are_those_that_cross(rows, split):
    split = min(split, len(rows))
    inside = as_dict(near_by_words(WordSets(rows), 0.5))
    across = as_dict(near_by_words(WordSets(rows), 0.5, split))
    assert across.keys() == {(a, b) for a, b in inside if a < split <= b}


def test_blocks_of_any_size_give_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    rows = [list(rng.integers(0, 40, 8)) for _ in range(150)]
    vectors = rng.standard_normal((150, 4))
    whole = as_dict(near_by_words(WordSets(rows), 0.4)), as_dict(near_by_vectors(vectors, None, 0.9))
    assert all(len(found) > 20 for found in whole)
    monkeypatch.setattr("kaggle_rag.evaluation.nearness._CANDIDATES", 50)
    monkeypatch.setattr("kaggle_rag.evaluation.nearness._CELLS", 1000)
    assert as_dict(near_by_words(WordSets(rows), 0.4)) == whole[0]
    assert as_dict(near_by_vectors(vectors, None, 0.9)).keys() == whole[1].keys()


def test_vector_pairs_are_those_of_scikit_learn():
    vectors = np.random.default_rng(1).standard_normal((60, 3))
    cosines = cosine_similarity(vectors)
    found = as_dict(near_by_vectors(vectors, None, 0.8))
    assert found.keys() == {tuple(p) for p in np.argwhere(np.triu(cosines >= 0.8, 1)).tolist()}
    assert all(found[pair] == pytest.approx(cosines[pair], abs=1e-6) for pair in found)
    across = as_dict(near_by_vectors(vectors[:20], vectors[20:], 0.8))
    assert across.keys() == {tuple(p) for p in np.argwhere(cosines[:20, 20:] >= 0.8).tolist()}


def test_a_vector_of_length_0_is_near_nothing():
    assert len(near_by_vectors(np.zeros((3, 2)), None, 0.5).left) == 0


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="not finite"):
        near_by_vectors([[np.nan, 1]], None, 0.5)
    with pytest.raises(InputError, match="shape"):
        near_by_vectors([1.0, 2.0], None, 0.5)
    with pytest.raises(InputError, match="3 and of 2 dimensions"):
        near_by_vectors(np.ones((1, 3)), np.ones((1, 2)), 0.5)
    with pytest.raises(ConfigError, match="above 0"):
        near_by_words(WordSets([["a"]]), 0)


def test_a_threshold_that_floods_is_refused_before_the_memory_is_full():
    with pytest.raises(ConfigError, match="raise it"):
        near_by_vectors(np.ones((600, 2)), None, 0.5)
    with pytest.raises(ConfigError, match="raise it"):
        near_by_words(WordSets([["a", "b"]] * 600), 0.5)
