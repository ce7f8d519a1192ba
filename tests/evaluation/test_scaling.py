"""Temperatures, and factors of letters: against a grid, a plain optimiser, and rankers that were spoilt."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss

from kaggle_rag.config import RankerSettings
from kaggle_rag.evaluation.scaling import (
    CALIBRATIONS,
    Calibration,
    cross_fitted,
    fit_temperature,
    fit_vector,
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


def test_vector_scaling_is_the_formula_with_the_least_penalised_loss():
    table, answers, present = made(150, 2)
    present[::5, 3] = False
    keep = present[np.arange(150), answers]
    table, answers, present = table[keep], answers[keep], present[keep]
    table = np.where(present, table, 0)
    table /= table.sum(axis=1, keepdims=True)

    def cost(values):
        logits = np.where(present, np.log(np.maximum(table, 1e-12)) * values[:4] + values[4:], -np.inf)
        away = values - np.repeat([1, 0], 4)
        return 0.5 * (away**2).sum() - log_softmax(logits, axis=1)[np.arange(len(answers)), answers].sum()

    plain = minimize(cost, np.repeat([1.0, 0.0], 4), method="BFGS")
    found = fit_vector(table.astype(np.float32), answers, present)
    assert cost(np.array(found.factors + found.biases)) <= plain.fun + 1e-4
    np.testing.assert_allclose(found.factors + found.biases, plain.x, atol=0.02)
    scaled = np.where(present, np.log(np.maximum(table, 1e-12)) * found.factors + found.biases, -np.inf)
    np.testing.assert_allclose(found(table.astype(np.float32), present), softmax(scaled, axis=1), atol=1e-5)


def test_a_ranker_that_favours_a_letter_is_mended_by_its_bias_and_by_no_temperature():
    table, answers, present = made(4000, 1)
    favouring = softmax(np.log(table) + np.array([2.0, 0, 0, 0]), axis=1).astype(np.float32)
    learnt, judged = slice(2000), slice(2000, None)
    losses = {
        name: log_loss(
            answers[judged],
            fit(favouring[learnt], answers[learnt], present[learnt])(favouring[judged], present[judged]),
        )
        for name, fit in CALIBRATIONS.items()
    }
    assert losses["vector"] < losses["temperature"] - 0.1
    assert losses["vector"] == pytest.approx(log_loss(answers[judged], table[judged]), abs=0.02)
    biases = np.array(fit_vector(favouring, answers, present).biases)
    np.testing.assert_allclose(biases[1:] - biases[0], 2, atol=0.5)


def test_letters_that_were_never_seen_are_scaled_like_the_others_and_favoured_by_none():
    known = Calibration(factors=(0.5, 1.5), biases=(0.0, 1.0))
    table = np.array([[0.2, 0.3, 0.5]], np.float32)
    by_hand = softmax(np.log(table) * [0.5, 1.5, 1.0] + [0.0, 1.0, 0.0], axis=1)
    np.testing.assert_allclose(known(table, np.ones((1, 3), bool)), by_hand, atol=1e-6)
    two = np.array([[0.4, 0.6]], np.float32)
    np.testing.assert_allclose(known(two, np.ones((1, 2), bool)).sum(), 1, atol=1e-6)


def test_a_calibration_says_in_settings_what_it_is():
    for each in (Calibration(), Calibration(1.4), Calibration(factors=(1.0, 0.5), biases=(0.0, 0.25))):
        assert Calibration.of(RankerSettings.model_validate(each.settings)) == each
    with pytest.raises(ValidationError, match="choose one"):
        RankerSettings.model_validate({"temperature": 2, "vector": {"factors": [1, 1], "biases": [0, 0]}})
    with pytest.raises(ValidationError, match="3 factors and 2 biases"):
        RankerSettings.model_validate({"vector": {"factors": [1, 1, 1], "biases": [0, 0]}})
