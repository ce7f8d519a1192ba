import numpy as np
import pytest
from question_tables import table
from scipy import stats

from kaggle_rag.evaluation.metrics import average_precisions
from kaggle_rag.evaluation.slices import holm, position_bias, slice_scores, slices_of
from kaggle_rag.runtime.errors import InputError

QUESTIONS = table(
    ("Short?", ["a thing", "another"], 0),
    ("A middling prompt?", ["tin", "lead", "None of the above."], 2),
    ("A middling prompt!", ["tin", "lead", "All of these"], 0),
    ("A prompt that is much longer than others?", ["it rises by 5 metres", "it rises by 6 metres"], 1),
)


def rows_of(masks):
    return {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()}


def test_the_standard_slices_of_a_hand_made_table():
    assert rows_of(slices_of(QUESTIONS, [0.1, np.nan, 0.5, 0.9])) == {
        "2 options": [0, 3], "3 options": [1, 2],
        "answer A": [0, 2], "answer B": [3], "answer C": [1],
        "prompt short": [0, 1, 2], "prompt long": [3],
        "question": [0, 1, 2, 3],
        "none or all of the above": [1, 2], "none or all of the above is right": [1],
        "near-identical options": [3],
        "no evidence": [1], "weaker evidence": [0], "stronger evidence": [2, 3],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("option", "is_one"),
    [
        ("none of these", True), ("Neither of the above", True), ("All the above", True),
        ("Both of these", True), ("None of the cells divide", False), ("all stars", False),
        ("The above", False), ("nonetheless", False), ("none", False),
    ],
)  # fmt: skip
def test_options_like_none_of_the_above(option, is_one):
    masks = slices_of(table(("What?", ["tin", option], 0)))
    assert ("none or all of the above" in masks) == is_one


def test_evidence_scores_must_fit():
    with pytest.raises(InputError, match="evidence scores"):
        slices_of(QUESTIONS, [1.0])


def test_p_values_agree_with_those_of_scipy():
    rng = np.random.default_rng(0)
    values = rng.choice([0, 1 / 3, 1 / 2, 1], 200)
    mask = rng.random(200) < 0.3
    values[mask] = np.maximum(values[mask] - (rng.random(mask.sum()) < 0.3), 0)
    (found,) = slice_scores(values, {"weak": mask})
    # Source of the other opinion: scipy's permutation test of the difference of means.
    theirs = stats.permutation_test(
        (values[mask], values[~mask]), lambda a, b: a.mean() - b.mean(), n_resamples=4999, rng=1
    )
    assert found.p_value == pytest.approx(theirs.pvalue, abs=0.02)
    assert found.questions == mask.sum()
    assert found.score.mean == pytest.approx(values[mask].mean())
    assert found.rest == pytest.approx(values[~mask].mean())


def test_a_weak_slice_is_marked_and_random_ones_seldom():
    rng = np.random.default_rng(1)
    marked = 0
    for trial in range(40):
        values = rng.choice([0, 1 / 2, 1], 300)
        noise = {f"{n}": rng.random(300) < 0.5 for n in range(15)}
        marked += any(part.differs for part in slice_scores(values, noise, permutations=999, seed=trial))
    # Holm keeps any false mark in a report to 5 %; without it half of the reports had one.
    assert marked <= 6
    values[:100] = 0
    weak = np.arange(300) < 100
    assert {p.name for p in slice_scores(values, noise | {"weak": weak}) if p.differs} == {"weak"}
    assert "differs from the rest" in str(slice_scores(values, {"weak": weak})[0])


def test_a_slice_of_everything_has_no_rest():
    whole, half = slice_scores([1, 0, 1, 0], {"all": np.ones(4, bool), "half": np.array([1, 0, 1, 0], bool)})
    assert np.isnan(whole.rest) and np.isnan(whole.p_value) and not whole.differs
    assert half.p_value > 0.05


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.5.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])


def hard(choices, width):
    return np.eye(width)[choices]


def test_two_hard_options_are_mcnemars_test():
    # 14 times A where B is right, 5 times B where A is right: (14 - 5)^2 / 19, one degree of freedom.
    given, right = np.array([0] * 14 + [1] * 5 + [0] * 30), np.array([1] * 14 + [0] * 5 + [0] * 30)
    found = position_bias(hard(given, 2), right, np.ones((49, 2), bool))
    assert found.p_value == pytest.approx(stats.chi2.sf(81 / 19, 1))
    assert found.given.tolist() == found.first.tolist() == pytest.approx([44 / 49, 5 / 49])
    assert found.right == pytest.approx([35 / 49, 14 / 49])


def test_p_values_are_even_where_positions_do_not_matter_and_small_where_they_do():
    rng = np.random.default_rng(2)
    p_values = []
    for _ in range(300):
        right, skill = rng.integers(0, 4, 200), rng.random((200, 4))
        table_ = skill + 0.5 * hard(right, 4)
        table_ /= table_.sum(axis=1, keepdims=True)
        p_values.append(position_bias(table_, right, np.ones((200, 4), bool)).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.001
    swayed = table_ * [1.5, 1, 1, 1]
    swayed /= swayed.sum(axis=1, keepdims=True)
    found = position_bias(swayed, right, np.ones((200, 4), bool))
    assert found.p_value < 0.05 and "positions bias it" in str(found)


def test_a_perfect_ranker_has_no_bias_and_an_unanswered_question_is_refused():
    right = np.array([0, 1, 1])
    assert position_bias(hard(right, 2), right, np.ones((3, 2), bool)).p_value == 1
    with pytest.raises(InputError, match="row 2"):
        position_bias(hard(right, 2), np.array([0, -1, 1]), np.ones((3, 2), bool))


def test_average_precisions_of_a_table():
    found = average_precisions([[0.2, 0.8], [0.9, 0.1]], [0, 0], [[True, True]] * 2)
    assert found.tolist() == [0.5, 1]
