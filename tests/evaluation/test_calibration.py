"""The expected calibration error, against a loop over the questions."""

import numpy as np
import pytest

from kaggle_rag.data.probabilities import softmax as likely
from kaggle_rag.evaluation.calibration import calibration_error, reliability, reliability_lines
from kaggle_rag.evaluation.scaling import with_temperature


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
    # Resampled as a loop would: the interval of the basic bootstrap.
    drawn = [rng.integers(0, 200, 200) for _ in range(400)]
    errors = [by_hand(table[rows], answers[rows], present[rows]) for rows in drawn]
    low, high = 2 * found.mean - np.quantile(errors, [0.975, 0.025])
    assert found.low == pytest.approx(low, abs=0.02) and found.high == pytest.approx(high, abs=0.02)


@pytest.mark.parametrize(("too_sure", "least", "most"), [(0.0, 90, 100), (0.3, 80, 100)])
def test_intervals_hold_the_error_that_all_questions_of_a_kind_have(too_sure, least, most):
    """Of 100 draws of 300 questions, by a ranker whose probabilities are that share too far from chance."""
    rng, present, held = np.random.default_rng(3), np.ones((300, 2), bool), 0
    for _ in range(100):
        sure = rng.uniform(0.5, 1, 300)
        right = rng.random(300) < sure - too_sure * (sure - 0.5)
        table = np.stack([sure, 1 - sure], axis=1).astype(np.float32)
        found = calibration_error(table, np.where(right, 0, 1), present)
        # |accuracy - confidence| in the limit: the share of the mean distance from chance, 0.25.
        held += found.low <= too_sure * 0.25 <= found.high
    assert least <= held <= most


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
