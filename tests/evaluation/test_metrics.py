import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind, ttest_rel
from sklearn.metrics import ndcg_score

from kaggle_rag.evaluation import metrics


def test_map3_of_a_hand_worked_table():
    # right option first, second, third, fourth: (1 + 1/2 + 1/3 + 0) / 4
    table = [[0.9, 0.1, 0, 0], [0.6, 0.4, 0, 0], [0.5, 0.3, 0.2, 0], [0.4, 0.3, 0.2, 0.1]]
    ranks = metrics.ranks_of_answers(table, [0, 1, 2, 3])
    assert ranks.tolist() == [1, 2, 3, 4]
    assert metrics.map_at_k(ranks) == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)
    assert metrics.accuracy(ranks) == 0.25


@given(st.lists(st.tuples(st.permutations(range(5)), st.integers(0, 4)), min_size=1, max_size=20))
@settings(max_examples=50)
def test_map3_agrees_with_the_competitions_formula(rows):
    """Sum over cut-offs of precision@k times relevance@k, as the evaluation page writes it."""
    expected = np.mean(
        [sum((order[:k].count(a) / k) * (order[k - 1] == a) for k in (1, 2, 3)) for order, a in rows]
    )
    scores = np.array([[5 - list(order).index(c) for c in range(5)] for order, _ in rows], float)
    ranks = metrics.ranks_of_answers(scores, [a for _, a in rows])
    assert metrics.map_at_k(ranks) == pytest.approx(expected)


def test_absent_options_rank_last_and_ties_go_by_column():
    assert metrics.ranking([[0.2, 0.9, 0.2]], [[True, False, True]]).tolist() == [[0, 2, 1]]


def test_chance_is_what_a_simulation_gives():
    rng = np.random.default_rng(0)
    table = rng.random((40_000, 4))
    simulated = metrics.map_at_k(metrics.ranks_of_answers(table, np.zeros(40_000, int)))
    assert metrics.chance_map_at_k([4] * 10) == pytest.approx(simulated, abs=0.006)
    assert metrics.chance_map_at_k([4]) == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=15), st.integers(1, 12), st.randoms())
@settings(max_examples=50)
def test_ndcg_agrees_with_scikit_learn(gains, k, random):
    if not any(gains):
        assert metrics.ndcg_at_k(range(len(gains)), dict(enumerate(gains)), k) == 0
        return
    order = list(range(len(gains)))
    random.shuffle(order)
    scores = [[-order.index(item) for item in range(len(gains))]]
    assert metrics.ndcg_at_k(order, dict(enumerate(gains)), k) == pytest.approx(
        ndcg_score([gains], scores, k=k)
    )


def test_recall():
    assert metrics.recall_at_k(["a", "b", "c"], {"b", "z"}, 2) == 0.5
    assert metrics.recall_at_k(["a"], set(), 2) == 1.0


def test_the_bootstrap_interval_is_the_textbook_one_for_many_values():
    values = np.random.default_rng(1).random(3000)
    interval = metrics.bootstrap(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.low == pytest.approx(values.mean() - half, abs=0.002)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.002)


def test_the_smallest_difference_is_found_four_times_out_of_five():
    """Scores of 1, 1/2, 1/3 and 0, as AP@3 has them, of which some change; the difference is planted."""
    rng, values = np.random.default_rng(3), np.array([1, 1 / 2, 1 / 3, 0])
    theirs = rng.choice(values, 600)
    ours = np.where(rng.random(600) < 0.3, rng.choice(values, 600), theirs)
    smallest = metrics.paired_bootstrap(ours, theirs).smallest
    gaps = ours - theirs
    drawn = rng.choice(gaps - gaps.mean() + smallest, (300, 600))
    found = [metrics.paired_bootstrap(row, np.zeros(600), resamples=400).distinguishable for row in drawn]
    assert 0.73 < np.mean(found) < 0.87
    nothing = [metrics.paired_bootstrap(row, np.full(600, smallest), resamples=400) for row in drawn]
    assert np.mean([each.distinguishable for each in nothing]) < 0.09


def test_a_paired_comparison_agrees_with_the_paired_t_test():
    rng = np.random.default_rng(2)
    for gap in (0.0, 0.02, 0.05, 0.2):
        ours, theirs = rng.random(800) + gap, rng.random(800)
        found = metrics.paired_bootstrap(ours, theirs)
        assert found.p_value == pytest.approx(ttest_rel(ours, theirs).pvalue, abs=0.04)
        assert found.difference.mean == pytest.approx(np.mean(ours - theirs))
        assert ("not distinguishable" in str(found)) == (found.difference.low <= 0 <= found.difference.high)


def trained(rng, seeds, questions, gain=0.0, between=0.02):
    """Scores of one way of training: a level of each question, one of each seed, and noise."""
    return questions + rng.normal(gain, between, (seeds, 1)) + rng.normal(0, 0.3, (seeds, len(questions)))


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_two_runs_that_differ_by_seeds_alone_are_seldom_called_different(seeds):
    """Where seeds move the mean more than questions do, comparing single runs question by question errs."""
    rng, wrong, naive = np.random.default_rng(seeds), 0, 0
    for _ in range(600):
        questions = rng.normal(0.6, 0.3, 500)
        one, other = trained(rng, seeds, questions), trained(rng, seeds, questions)
        wrong += metrics.paired_over_seeds(one, other).distinguishable
        naive += metrics.paired_bootstrap(one[0], other[0], resamples=200).distinguishable
    assert wrong / 600 < 0.07 and naive / 600 > 0.2


def test_the_smallest_difference_over_seeds_is_found_four_times_out_of_five():
    rng, found, told = np.random.default_rng(5), [], []
    for _ in range(400):
        questions = rng.normal(0.6, 0.3, 500)
        alike = trained(rng, 5, questions), trained(rng, 5, questions)
        told.append(metrics.paired_over_seeds(*alike).smallest)
    for _ in range(400):
        questions = rng.normal(0.6, 0.3, 500)
        ours, theirs = trained(rng, 5, questions, gain=np.mean(told)), trained(rng, 5, questions)
        found.append(metrics.paired_over_seeds(ours, theirs).distinguishable)
    assert 0.75 < np.mean(found) < 0.9


def test_with_seeds_that_agree_it_is_the_paired_t_test():
    rng = np.random.default_rng(6)
    ours, theirs = rng.random(300) + 0.03, rng.random(300)
    found = metrics.paired_over_seeds([ours, ours], [theirs, theirs, theirs])
    assert found.p_value == pytest.approx(ttest_rel(ours, theirs).pvalue, rel=1e-6)
    # A single question tells nothing of others: seeds alone are left.
    lone = metrics.paired_with_seeds([0.5], [1.0], [[0.4, 0.6], [0.8, 1.2]])
    assert lone.p_value == pytest.approx(ttest_ind([0.4, 0.6], [0.8, 1.2], equal_var=False).pvalue)
    alone = metrics.paired_with_seeds([0.5], [1.0], [])
    assert (alone.difference.low, alone.difference.mean, alone.smallest) == (-0.5, -0.5, None)
    same = metrics.paired_over_seeds([ours, ours], [ours, ours])
    assert same.p_value == 1 and not same.distinguishable and same.smallest is None


def test_runs_that_are_alike_tell_no_detectable_difference():
    alike = metrics.paired_bootstrap([1, 0.5, 0], [1, 0.5, 0])
    assert alike.smallest is None and "NaN" not in json.dumps(dataclasses.asdict(alike))
    assert metrics.detectable_difference([0.5]) is None
