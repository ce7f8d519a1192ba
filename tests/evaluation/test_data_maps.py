"""Data maps: hand-worked means and deviations, which questions are in which region, and the file."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.data_maps import (
    COLUMNS,
    Dynamics,
    dynamics,
    mean_of,
    ranked,
    read_data_map,
    write_data_map,
)  # fmt: skip
from kaggle_rag.runtime.errors import ArtifactError, InputError

NAN = float("nan")


def questions(count=4, start=0):
    rows = [
        {"id": f"q{n}", "prompt": f"prompt {n}", "A": "x", "B": "y", "answer": "A"}
        for n in range(start, start + count)
    ]
    return Questions.from_rows(rows, "test")


def hand_worked():
    """Three epochs of four questions; the third misses one epoch, the last has none."""
    likely = [[0.9, 0.2, 0.5, NAN], [0.7, 0.8, NAN, NAN], [0.8, 0.2, 0.1, NAN]]
    right = [[1, 0, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0]]
    return dynamics(likely, right)


def test_a_map_worked_by_hand():
    found = hand_worked()
    np.testing.assert_allclose(found.confidence, [0.8, 0.4, 0.3, NAN])
    # Deviations of .1, .1, 0; of .2, .4, .2; and of .2 twice: over E, not E - 1.
    expected = [(0.02 / 3) ** 0.5, (0.24 / 3) ** 0.5, 0.2, NAN]
    np.testing.assert_allclose(found.variability, expected)
    np.testing.assert_allclose(found.correctness, [1, 1 / 3, 1 / 2, NAN])
    assert found.epochs.tolist() == [3, 3, 2, 0]


def test_regions_are_the_most_variable_the_least_and_the_most_confident():
    found = hand_worked()
    assert ranked(found, "ambiguous").tolist() == [1, 2, 0]
    assert ranked(found, "hard").tolist() == [2, 1, 0]
    assert ranked(found, "easy").tolist() == [0, 1, 2]


def test_several_trainings_count_by_their_epochs():
    one = Dynamics(*np.array([[0.8, NAN, NAN], [0.1, NAN, NAN], [1, NAN, NAN], [3, 0, 0]]))
    other = Dynamics(*np.array([[0.4, 0.5, NAN], [0.3, 0.2, NAN], [0, 1, NAN], [1, 2, 0]]))
    found = mean_of([one, other])
    np.testing.assert_allclose(found.confidence, [0.7, 0.5, NAN])
    np.testing.assert_allclose(found.variability, [0.15, 0.2, NAN])
    np.testing.assert_allclose(found.correctness, [0.75, 1, NAN])
    assert found.epochs.tolist() == [4, 2, 0]


def test_a_file_is_read_for_its_questions_in_any_order(tmp_path):
    path = tmp_path / "data_map.parquet"
    write_data_map(path, questions(), hand_worked())
    assert pq.read_table(path).to_pydict()["id"] == ["q0", "q1", "q2"]
    order = np.array([3, 1, 0, 2])
    found = read_data_map(path, questions().take(order))
    for got, whole in zip(found, hand_worked()):
        np.testing.assert_allclose(got, whole[order])


def test_a_map_of_other_questions_is_refused(tmp_path):
    path = tmp_path / "data_map.parquet"
    write_data_map(path, questions(), hand_worked())
    with pytest.raises(ArtifactError, match="2 of its 3 are not among these"):
        read_data_map(path, questions(count=1))
    # The same ids with other texts.
    renamed = Questions.from_rows(
        [{"id": f"q{n}", "prompt": "another", "A": "x", "B": "y"} for n in range(4)], "test"
    )
    with pytest.raises(ArtifactError, match="3 of its 3 are not among these"):
        read_data_map(path, renamed)


def test_what_is_no_map_is_told(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"id": ["q0"], "question": ["h"]}), path)
    with pytest.raises(InputError, match="column 'confidence' is missing"):
        read_data_map(path, questions())
    table = {name: ["q0"] for name in COLUMNS} | {"question": [questions().fingerprints()[0]]}
    pq.write_table(pa.table(table), path)
    with pytest.raises(InputError, match="row 1: a cell is not a number"):
        read_data_map(path, questions())
