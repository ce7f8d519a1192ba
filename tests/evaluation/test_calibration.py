"""Temperatures: against a grid of them, and a ranker that is made too sure."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from kaggle_rag.evaluation.calibration import cross_fitted, fit_temperature, with_temperature


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
