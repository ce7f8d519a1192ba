"""The cascade: which questions an expensive ranker is asked first, and what that is worth."""

import numpy as np
import pytest

from kaggle_rag.data.predictions import Predictions
from kaggle_rag.ensembling.cascade import CERTAINTY, Gate, OutOfFold, fit_gate
from kaggle_rag.runtime.errors import ConfigError


def test_the_least_certain_come_first_ties_in_their_order():
    so_far = np.array([[0.9, 0.1], [0.5, 0.5], [0.6, 0.4], [0.45, 0.55]], np.float32)
    assert Gate().order(so_far, np.array([0, 1, 2, 3])).tolist() == [1, 3, 2, 0]
    assert Gate().order(so_far, np.array([0, 2])).tolist() == [2, 0]
    assert Gate().order(so_far[[1, 1]], np.array([1, 0])).tolist() == [1, 0]


def test_measures_of_certainty_by_hand():
    table = np.array([[0.5, 0.3, 0.2, 0.0], [1.0, 0.0, 0.0, 0.0]], np.float32)
    assert CERTAINTY["margin"](table) == pytest.approx([0.2, 1.0])
    assert CERTAINTY["expected score"](table) == pytest.approx([0.5 + 0.15 + 0.2 / 3, 1.0])
    nats = 0.5 * np.log(0.5) + 0.3 * np.log(0.3) + 0.2 * np.log(0.2)
    assert CERTAINTY["entropy"](table) == pytest.approx([nats, 0.0])
    assert CERTAINTY["margin"](np.ones((1, 1), np.float32)) == pytest.approx([1.0])


def test_the_measure_is_the_one_whose_uncertain_half_gains_most():
    """Gains lie where the entropy is high; margins say nothing of it."""
    rng = np.random.default_rng(0)
    flat = rng.random(400) < 0.5
    top = np.where(flat, 0.3, 0.55) + rng.normal(scale=0.01, size=400)
    second = top - np.where(flat, 0.06, 0.03)
    rest = (1 - top - second)[:, None]
    shares = np.where(flat[:, None], [0.5, 0.5], [1.0, 0.0])
    table = np.concatenate([top[:, None], second[:, None], rest * shares], axis=1).astype(np.float32)
    gate = fit_gate(table, flat.astype(float))
    assert gate.certainty != "margin" and gate.captured > 0.95


@pytest.mark.parametrize("gains", [np.zeros(300), np.full(300, -0.1), np.ones(20)])
def test_where_nothing_can_be_learnt_the_margin_decides(gains):
    table = np.random.default_rng(0).dirichlet(np.ones(4), len(gains)).astype(np.float32)
    assert fit_gate(table, gains) == Gate()


def stored(path, rankers, answers):
    table = np.random.default_rng(0).dirichlet(np.ones(4), len(answers)).astype(np.float32)
    ids = tuple(str(n) for n in range(len(answers)))
    tables = {f"r{n}": table for n in range(rankers)}
    present = np.ones(table.shape, bool)
    Predictions(ids, ids, np.zeros(len(ids), np.int64), np.array(answers), present, tables, {}).write(path)
    return path


def test_predictions_of_other_rankers_or_without_answers_are_refused(tmp_path):
    path = stored(tmp_path / "a.parquet", 2, [0, 1, -1])
    known = OutOfFold.read(path, 2)
    assert known.answers.tolist() == [0, 1] and len(known.tables[0]) == 2
    with pytest.raises(ConfigError, match="out-of-fold predictions of 2 rankers, the settings name 3"):
        OutOfFold.read(path, 3)
    with pytest.raises(ConfigError, match="no answers"):
        OutOfFold.read(stored(tmp_path / "b.parquet", 1, [-1, -1]), 1)
