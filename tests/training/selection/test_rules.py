"""One choice from many rankings: each rule against a loop over all scores, and hand-worked cases."""

import numpy as np
import pytest

from training.selection.command import EXAMPLES
from training.selection.rules import RULES, Ranking
from training.selection.search import SEARCHES, Hits
from training.selection.select import HOW

S, N = 7, 40


class Table:
    """A search whose scores are a table."""

    def __init__(self, table):
        self.table = np.asarray(table, dtype=np.float64)

    def nearest(self, k):
        rows = np.argsort(-self.table, axis=1, kind="stable")[:, :k]
        return Hits(np.take_along_axis(self.table, rows, 1), rows)

    def means(self):
        return self.table.mean(axis=0)

    def scores(self, rows):
        return self.table[:, rows]


def chosen(rule, table, budget, seed=0, least=None):
    search = Table(table)
    hits = search.nearest(min(budget, search.table.shape[1]))
    if least is not None:
        hits = Hits(hits.scores, np.where(hits.scores > least, hits.rows, -1))
    return RULES[rule](Ranking(hits, search, search.table.shape[1], budget, seed))


def ranks_of(scores, budget):
    """Row to rank from 1, of one specification's first ``budget`` rows, by plain sorting."""
    order = sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:budget]
    return {row: place for place, row in enumerate(order, 1)}


def tables():
    rng = np.random.default_rng(0)
    yield rng.normal(size=(S, N))
    # Many ties.
    yield rng.integers(0, 4, (S, N)).astype(float)


def by_best_rank(table, ranks, row):
    """Best rank of a row, the score there, and which specification: the first of the best."""
    found = [(ranks[s][row], -table[s][row], s) for s in range(len(table)) if row in ranks[s]]
    return min(found) if found else None


@pytest.mark.parametrize("budget", [1, 5, 17])
@pytest.mark.parametrize("number", [0, 1])
def test_fusion_and_best_rank_are_those_of_a_loop(number, budget):
    table = [*tables()][number]
    ranks = [ranks_of(scores, budget) for scores in table]
    best = {row: found for row in range(N) if (found := by_best_rank(table, ranks, row))}
    fused = {row: sum(1 / (60 + each[row]) for each in ranks if row in each) for row in best}
    expected = {
        # Sums of the same shares in another order differ in the last digits.
        "rrf": sorted(best, key=lambda row: (-round(fused[row], 12), best[row][0], row))[:budget],
        "best": sorted(best, key=lambda row: (best[row][0], best[row][1], row))[:budget],
    }
    for rule, rows in expected.items():
        found = chosen(rule, table, budget)
        assert found.rows.tolist() == rows
        assert found.specification.tolist() == [best[row][2] for row in rows]
        np.testing.assert_allclose(found.scores, [-best[row][1] for row in rows])


@pytest.mark.parametrize("number", [0, 1])
def test_the_mean_is_over_all_specifications(number):
    table = [*tables()][number]
    found = chosen("mean", table, 9)
    means = [sum(table[s][row] for s in range(S)) / S for row in range(N)]
    matched = {row for scores in table for row in ranks_of(scores, 9)}
    rows = sorted(matched, key=lambda row: (-round(means[row], 12), row))[:9]
    assert found.rows.tolist() == rows
    for row, by, score in zip(*found):
        assert score == max(table[:, row]) == table[by, row]


@pytest.mark.parametrize("number", [0, 1])
def test_turns_give_each_specification_its_best_question_that_is_left(number):
    table, budget = [*tables()][number], 31
    found = chosen("round-robin", table, budget, seed=3)
    left = set(range(N))
    order = found.specification[:S]
    assert sorted(order) == list(range(S))
    for turn, (row, by, score) in enumerate(zip(*found)):
        assert by == order[turn % S]
        assert row == min(left, key=lambda each: (-table[by][each], each)) and score == table[by][row]
        left.remove(row)
    others = {tuple(chosen("round-robin", table, S, seed=seed).specification) for seed in range(5)}
    assert len(others) > 1


def test_a_small_budget_goes_to_as_many_specifications():
    assert len(set(chosen("round-robin", next(tables()), 4).specification)) == 4


def test_who_has_nothing_left_takes_no_further_turn():
    table = [[0.9, 0.8, 0.1, 0.2], [0.7, -1, -1, -1]]
    found = chosen("round-robin", table, 4, least=0.0)
    assert sorted(found.rows) == [0, 1, 2, 3]
    took = {1: 1} if 0 not in found.rows[found.specification == 0] else {1: 0}
    assert (found.specification == 1).sum() == took[1]


def test_what_is_below_the_least_score_is_not_chosen():
    table = [[0.9, 0.3, 0.1], [0.2, 0.8, 0.1]]
    for rule in ("round-robin", "rrf", "best"):
        assert sorted(chosen(rule, table, 3, least=0.5).rows) == [0, 1]


def test_hand_worked_fusion():
    # Rows 0 and 1 are first once and second once: more than row 2, which is third twice.
    found = chosen("rrf", [[3, 2, 1], [2, 3, 1]], 3)
    assert found.rows.tolist() == [0, 1, 2] and found.specification.tolist() == [0, 1, 0]


def test_the_help_names_every_rule_and_no_other():
    told = [
        line.split()[0] for line in EXAMPLES.splitlines() if line.startswith("  ") and "python" not in line
    ]
    assert [word for word in told if not word.startswith("--")] == list(HOW)
    assert list(SEARCHES) == ["vectors", "words"]
