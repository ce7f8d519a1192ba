"""The line through the sizes, and the time that it tells."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from inference.notebook.rehearsal.timing import Forecast, Pace, pace


def test_a_hand_worked_line():
    line = pace([100, 500, 2000], [20.0, 60.0, 210.0])
    assert (line.start, line.each) == (pytest.approx(10), pytest.approx(0.1))
    assert line.seconds(4000) == pytest.approx(410)


def test_one_size_tells_no_line():
    assert pace([100, 100], [1.0, 2.0]) is None and pace([], []) is None


def test_a_pace_is_never_negative():
    assert pace([100, 500], [9.0, 5.0]) == Pace(9.0, 0.0)
    line = pace([100, 500], [1.0, 9.0])
    assert line.start == 0 and line.each == pytest.approx((100 * 1 + 500 * 9) / (100**2 + 500**2))


POINTS = st.lists(st.tuples(st.integers(1, 5000), st.floats(0.1, 1e4)), min_size=2, max_size=6)


@given(POINTS.filter(lambda points: len({size for size, _ in points}) > 1))
def test_the_line_is_that_of_nonnegative_least_squares(points):
    sizes, seconds = zip(*points)
    line = pace(sizes, seconds)
    expected, _ = nnls(np.column_stack([np.ones(len(sizes)), sizes]), np.array(seconds))
    if line.each > 0:
        assert [line.start, line.each] == pytest.approx(list(expected), rel=1e-6, abs=1e-6)
    else:
        # Where more questions took less, the slowest counts instead of the mean.
        assert expected[1] == pytest.approx(0, abs=1e-9) and line.start == max(seconds)


def forecast(**changes):
    given = {"pace": Pace(60.0, 2.0), "questions": 4000, "bytes": 10**10, "storage": 1e8, "limit": 9 * 3600.0,
             "own_limit": None}  # fmt: skip
    return Forecast(**{**given, **changes})


def test_a_slow_start_and_slow_storage_count():
    found = forecast()
    assert found.seconds == 60 + 8000 and found.slow_seconds == 7 * 60 + 100 + 8000
    assert not found.overruns and "4,000 questions would take 2.2 hours" in found.text()


def test_a_plan_that_takes_too_long_overruns_unless_it_ends_by_itself():
    late = {"pace": Pace(60.0, 9.0)}
    assert forecast(**late).overruns and forecast(limit=8000.0).overruns
    ends = forecast(**late, own_limit=8.5 * 3600)
    assert not ends.overruns and "ends by itself after 8.5 hours" in ends.text()
    assert forecast(**late, own_limit=8.99 * 3600).overruns
    assert "ends by itself" not in forecast(own_limit=8.5 * 3600).text()
