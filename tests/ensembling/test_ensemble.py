import numpy as np
import pytest
from question_tables import questions, ranker
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from kaggle_rag.ensembling.blending import blend, fit_weights
from kaggle_rag.runtime.errors import ConfigError, InputError


def test_a_bad_ranker_loses_its_say_and_the_gain_is_shown():
    right, present = questions(1500)
    tables = [ranker(right, 2.0, 1), ranker(right, 0.0, 2), ranker(right, 0.0, 3)]
    found = fit_weights(tables, right, present)
    assert found.refused == "" and found.weights == found.tried
    assert found.weights[0] > 0.9 and sum(found.weights) == pytest.approx(1)
    assert found.score.difference.low > 0 and found.loss.difference.high < 0


@pytest.mark.parametrize("rule", ["probabilities", "ranks"])
def test_alike_rankers_keep_equal_weights_and_the_reason_is_said(rule):
    right, present = questions(400)
    found = fit_weights([ranker(right, 1.0, 1), ranker(right, 1.0, 2)], right, present, rule)
    assert found.weights == (0.5, 0.5)
    assert "not distinguishable" in found.refused
    assert found.tried == pytest.approx((0.5, 0.5), abs=0.2)


def test_few_questions_are_refused_before_a_fit():
    right, present = questions(59)
    found = fit_weights([ranker(right, s, s) for s in (5, 0, 1)], right, present)
    assert found.tried is None and found.weights == pytest.approx([1 / 3] * 3)
    assert "59 questions: too few for 3 weights (at least 60)" in found.refused
    assert fit_weights([ranker(right, 1, 1)], right, present).weights == (1.0,)


def test_the_weights_are_those_of_a_search_along_the_line():
    right, present = questions(5000)
    one, other = ranker(right, 1.5, 1), ranker(right, 1.0, 2)
    best = minimize_scalar(
        lambda w: log_loss(right, blend([one, other], [w, 1 - w], present)), bounds=(0, 1), method="bounded"
    )
    assert fit_weights([one, other], right, present).tried[0] == pytest.approx(best.x, abs=0.01)


def test_the_pull_towards_equal_weights_fades_with_questions():
    away = []
    for count in (70, 700, 7000):
        right, present = questions(count)
        tables = [ranker(right, 1.5, 1), ranker(right, 0.9, 2)]
        found = fit_weights(tables, right, present).tried[0]
        free = minimize_scalar(
            lambda w, t=tables, y=right, p=present: log_loss(y, blend(t, [w, 1 - w], p)),
            bounds=(0, 1), method="bounded",
        ).x  # fmt: skip
        away.append(abs(found - free))
    assert away[0] > 0.02 and away[0] > 5 * away[1] > 25 * away[2]


def test_fitted_weights_seldom_pass_where_nothing_is_better():
    """Rankers of equal skill: the refusal must hold for most draws."""
    passed = 0
    for seed in range(20):
        right, present = questions(300, seed)
        tables = [ranker(right, 1.0, 100 * seed + m) for m in range(3)]
        passed += fit_weights(tables, right, present, seed=seed).refused == ""
    assert passed <= 2


def test_given_folds_are_used_and_must_fit():
    right, present = questions(100)
    tables = [ranker(right, 1.0, 1), ranker(right, 0.5, 2)]
    one = fit_weights(tables, right, present, folds=np.arange(100) % 2)
    other = fit_weights(tables, right, present, folds=np.arange(100) // 50)
    assert one.tried == other.tried and one.loss != other.loss
    for folds in (np.zeros(100, int), np.arange(99)):
        with pytest.raises(InputError, match="at least two folds"):
            fit_weights(tables, right, present, folds=folds)


def test_what_cannot_be_fitted_is_refused():
    right, present = questions(100)
    good = ranker(right, 1.0, 1)
    with pytest.raises(ConfigError, match="no ranker"):
        fit_weights([], right, present)
    with pytest.raises(InputError, match="table 2 has the shape"):
        fit_weights([good, good[:, :4]], right, present)
    with pytest.raises(InputError, match="negative number or NaN"):
        fit_weights([good, good * np.nan], right, present)
    with pytest.raises(InputError, match="1 of 100 questions have no answer"):
        fit_weights([good], np.where(np.arange(100) == 3, -1, right), present)
    with pytest.raises(ConfigError, match="no blending rule 'best'"):
        fit_weights([good, good], right, present, "best")


def test_a_ranker_that_hardly_counts_is_left_out():
    right, present = questions(2000)
    good, fair = ranker(right, 2.0, 1), ranker(right, 1.5, 2)
    found = fit_weights([good, ranker(1 - right % 2, 3.0, 3), fair], right, present)
    assert found.weights[1] == 0.0 and found.refused == ""
    assert found.weights[::2] == fit_weights([good, fair], right, present).tried


def test_a_gain_that_only_the_log_loss_sees_is_taken():
    """A ranker without an opinion leaves every order as it is, and every probability too low."""
    right, present = questions(200)
    found = fit_weights([ranker(right, 2.0, 1), np.float32(present / 5)], right, present)
    assert found.score.difference.mean == 0 and found.loss.difference.high < 0
    assert found.refused == "" and found.weights[0] > 0.9
