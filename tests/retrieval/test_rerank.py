"""Exact distances and the dropping of near-duplicates, against loops of plain Python."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_rag.retrieval.rerank import exact_distances, nearest_distinct

POINTS = st.lists(st.tuples(*[st.integers(-4, 4)] * 3), min_size=1, max_size=15)


@given(POINTS, POINTS)
@settings(max_examples=50)
def test_distances_are_those_of_python_to_the_last_digits(queries, candidates):
    found = exact_distances(np.array(queries, np.float32) / 7, np.array(candidates, np.float32) / 7)
    sevenths = [[tuple(float(np.float32(x) / np.float32(7)) for x in p) for p in ps]
                for ps in (queries, candidates)]  # fmt: skip
    slow = [[math.dist(q, c) for c in sevenths[1]] for q in sevenths[0]]
    assert found.dtype == np.float64 and np.abs(found - slow).max() < 1e-12


def test_double_precision_tells_apart_what_single_precision_does_not():
    query = np.array([[1.0, 0.0]], np.float32)
    near, far = np.array([1.0, 1e-4], np.float32), np.array([1.0, 1.0001e-4], np.float32)
    cosines = [1 - np.float32(query[0] @ v) for v in (near, far)]
    distances = exact_distances(query, np.stack([near, far]))[0]
    assert cosines[0] == cosines[1] and distances[0] < distances[1]


@given(POINTS, st.integers(1, 6), st.sampled_from([0.0, 1.0, 1.5, 3.0]))
@settings(max_examples=50)
def test_the_kept_are_those_of_a_loop(points, keep, near):
    candidates = np.array(points, np.float32)
    distances = exact_distances(np.zeros((1, 3), np.float32), candidates)[0]
    slow = []
    for i in sorted(range(len(points)), key=lambda i: distances[i]):
        if len(slow) < keep and all(math.dist(points[i], points[j]) > near for j in slow):
            slow.append(i)
    assert nearest_distinct(distances, candidates, keep, near) == slow


def test_at_zero_equal_vectors_are_dropped_and_below_zero_nothing_is():
    candidates = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    distances = np.array([0.1, 0.1, 0.2])
    assert nearest_distinct(distances, candidates, 9, 0.0) == [0, 2]
    assert nearest_distinct(distances, candidates, 9, -1.0) == [0, 1, 2]


def test_no_candidates_give_nothing():
    assert nearest_distinct(np.zeros(0), np.zeros((0, 3), np.float32), 5, 0.1) == []
