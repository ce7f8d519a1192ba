"""Temperatures: against a grid of them, and a ranker that is made too sure."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from kaggle_rag.data.probabilities import softmax as likely
from kaggle_rag.evaluation.calibration import (
    calibration_error,
    cross_fitted,
    fit_temperature,
    reliability,
    reliability_lines,
    with_temperature,
)


def made(count, sureness, seed=0):
    """Probabilities of four options whose answers are drawn from them, then sharpened."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 4))
    answers = np.array([rng.choice(4, p=row) for row in softmax(logits, axis=1)])
    return softmax(logits * sureness, axis=1).astype(np.float32), answers, np.ones((count, 4), bool)


@pytest.mark.parametrize("sureness", [0.5, 1, 4])
def test_the_temperature_undoes_what_made_a_ranker_too_sure(sureness):
    table, answers, present = made(4000, sureness)
    assert fit_temperature(table, answers, present) == pytest.approx(sureness, rel=0.15)


def test_it_has_the_least_log_loss_of_a_grid():
    table, answers, present = made(3000, 3)
    grid = np.linspace(0.5, 6, 111)
    losses = [log_loss(answers, with_temperature(table, present, each), labels=range(4)) for each in grid]
    assert fit_temperature(table, answers, present) == pytest.approx(grid[np.argmin(losses)], abs=0.1)


def test_few_questions_leave_it_near_one_and_the_order_of_options_as_it_is():
    sure = np.array([[0.999, 0.001], [0.998, 0.002]], np.float32)
    present = np.ones((2, 2), bool)
    assert 0.2 < fit_temperature(sure, np.array([0, 0]), present) < 1
    table, _, present = made(50, 2)
    colder = with_temperature(table, present, 0.3)
    assert (np.argsort(colder, axis=1) == np.argsort(table, axis=1)).all()
    np.testing.assert_allclose(colder.sum(axis=1), 1, atol=1e-6)


def test_absent_options_stay_absent_and_unanswered_rows_unanswered():
    table = np.array([[0.7, 0.3, 0.0], [np.nan, np.nan, np.nan]], np.float32)
    present = np.array([[True, True, False], [True, True, True]])
    hot = with_temperature(table, present, 2)
    roots = np.sqrt([0.7, 0.3])
    np.testing.assert_allclose(hot[0], [*(roots / roots.sum()), 0], atol=1e-6)
    assert np.isnan(hot[1]).all()


def test_a_fold_knows_nothing_of_its_own_answers():
    table, answers, present = made(200, 2)
    folds = np.arange(200) % 2
    one_way = cross_fitted(table, answers, present, folds)
    turned = np.where(folds == 0, (answers + 1) % 4, answers)
    other = cross_fitted(table, turned, present, folds)
    assert (one_way[folds == 0] == other[folds == 0]).all()
    assert not np.allclose(one_way[folds == 1], other[folds == 1])


def by_hand(table, answers, present):
    """The expected calibration error, question by question into ten lists."""
    bins = [[] for _ in range(10)]
    for row, answer, there in zip(table, answers, present):
        column = max((c for c in range(len(row)) if there[c]), key=lambda c: row[c])
        bins[min(int(float(row[column]) * 10), 9)].append((float(row[column]), column == answer))
    total = 0.0
    for held in filter(None, bins):
        total += abs(sum(right for _, right in held) - sum(sure for sure, _ in held))
    return total / len(table)


def test_the_calibration_error_is_that_by_hand():
    rng = np.random.default_rng(0)
    present = np.ones((200, 4), bool)
    present[::7, 3] = False
    table = likely(2 * rng.standard_normal((200, 4)), present)
    answers = rng.integers(0, 3, 200)
    found = calibration_error(table, answers, present)
    assert found.mean == pytest.approx(by_hand(table, answers, present), abs=1e-6)
    # Resampled as a loop would: the interval of the bootstrap.
    drawn = [rng.integers(0, 200, 200) for _ in range(400)]
    errors = [by_hand(table[rows], answers[rows], present[rows]) for rows in drawn]
    low, high = np.quantile(errors, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.02) and found.high == pytest.approx(high, abs=0.02)


def test_a_ranker_that_is_as_sure_as_it_is_right_has_little_error():
    rng = np.random.default_rng(1)
    present = np.ones((4000, 3), bool)
    table = likely(rng.standard_normal((4000, 3)), present)
    answers = np.array([rng.choice(3, p=row / row.sum()) for row in table.astype(np.float64)])
    sure = with_temperature(table, present, 0.3)
    assert calibration_error(table, answers, present).mean < 0.03
    assert calibration_error(sure, answers, present).low > 0.1
    bins = reliability(table, answers, present)
    assert sum(each.count for each in bins) == 4000 and len(reliability_lines(bins)) <= 11
    assert all(abs(each.confidence - each.accuracy) < 0.1 for each in bins if each.count > 200)
