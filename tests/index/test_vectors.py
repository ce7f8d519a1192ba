"""Stored vectors in three precisions, exact search over them, and refinement, against brute force."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from kaggle_rag.index.exact import is_affordable, refine, search_exact
from kaggle_rag.index.gpu import running_top
from kaggle_rag.index.vectors import PRECISIONS, VectorLayout, VectorStore, VectorWriter, calibrated_step
from kaggle_rag.runtime.errors import ArtifactError

ROWS, DIM = 3_000, 48


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, DIM))
    return unit(centres[rng.integers(0, 60, ROWS)] + 0.7 * rng.normal(size=(ROWS, DIM)))


@pytest.fixture(scope="module")
def queries(vectors):
    return unit(vectors[::100] + 0.05 * np.random.default_rng(1).normal(size=(30, DIM)))


def stored(folder, vectors, precision):
    step = calibrated_step(vectors[:500]) if precision == "int8" else 0.0
    layout = VectorLayout(*vectors.shape, precision, step)
    writer = VectorWriter(folder / "vectors.npy", layout)
    half = len(vectors) // 2
    writer.write(half, vectors[half:])
    writer.write(0, vectors[:half])
    writer.close()
    return VectorStore(folder / "vectors.npy", layout)


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-6), ("fp16", 2e-3), ("int8", 3e-2)])
def test_distances_to_stored_vectors_are_those_of_the_precision(precision, most, vectors, queries, tmp_path):
    store = stored(tmp_path, vectors, precision)
    true = cdist(queries, vectors, "sqeuclidean")
    distances, rows = search_exact(queries, store, 10)
    assert np.abs(distances - np.take_along_axis(true, rows, axis=1)).max() < most
    found = [len(set(a) & set(b)) for a, b in zip(rows, np.argsort(true, axis=1)[:, :10])]
    assert np.mean(found) >= {"fp32": 10, "fp16": 9.9, "int8": 9.5}[precision]


def test_a_file_of_vectors_is_numpys_own_and_half_the_size_at_half_precision(vectors, tmp_path):
    for precision in PRECISIONS:
        (tmp_path / precision).mkdir()
        store = stored(tmp_path / precision, vectors, precision)
        assert store.layout.row_bytes == DIM * np.dtype(PRECISIONS[precision]).itemsize
    assert np.array_equal(np.load(tmp_path / "fp32" / "vectors.npy"), vectors)
    assert np.array_equal(np.load(tmp_path / "fp16" / "vectors.npy"), vectors.astype(np.float16))


def test_rows_are_read_in_any_order_and_repeated(vectors, tmp_path):
    store = stored(tmp_path, vectors, "fp32")
    rows = np.array([2999, 0, 7, 7, 1500])
    assert np.array_equal(store.take(rows), vectors[rows])
    assert np.array_equal(np.vstack([block for _, block in store.blocks(700)]), vectors)


def test_blocks_smaller_than_k_still_give_the_k_nearest(vectors, queries, tmp_path, monkeypatch):
    store = stored(tmp_path, vectors, "fp32")
    monkeypatch.setattr("kaggle_rag.index.vectors._BLOCK_BYTES", 4 * DIM * 7)
    seen = []
    distances, _ = search_exact(queries, store, 20, on_rows=seen.append)
    true = np.sort(cdist(queries, vectors, "sqeuclidean"), axis=1)[:, :20]
    assert np.allclose(distances, true, atol=1e-5) and sum(seen) == ROWS and max(seen) == 7


def test_the_running_top_of_half_precision_blocks_is_that_of_a_brute_force(vectors, queries, monkeypatch):
    """What a GPU computes, on the CPU: blocks and parts of the queries smaller than k and than all."""
    monkeypatch.setattr("kaggle_rag.index.gpu._QUERIES", 3)
    stored = torch.from_numpy(vectors).half()
    blocks = [(start, stored[start : start + 7]) for start in range(0, ROWS, 7)]
    seen = []
    rows = running_top(torch.from_numpy(queries).half(), blocks, 20, seen.append)
    true = np.argsort(cdist(queries.astype(np.float16), vectors.astype(np.float16)), axis=1)[:, :20]
    assert sum(seen) == ROWS
    assert np.mean([len(set(a) & set(b)) / 20 for a, b in zip(rows, true)]) > 0.98
    assert np.mean(rows[:, 0] == true[:, 0]) > 0.95


@pytest.mark.parametrize(
    ("gigabytes", "device", "exact"),
    [(92, "cuda", True), (400, "cuda:0", False), (0.001, "cpu", False)],
)
def test_exact_search_is_the_default_on_a_gpu_that_is_fed_the_vectors_in_ten_minutes(
    gigabytes, device, exact
):
    """120 million sentences in half precision are 92 GB."""
    assert is_affordable(int(gigabytes * 1e9), device) == exact


def test_refinement_orders_candidates_exactly_and_puts_the_missing_last(
    vectors, queries, tmp_path, monkeypatch
):
    store = stored(tmp_path, vectors, "fp32")
    monkeypatch.setattr("kaggle_rag.index.exact._REFINE_BYTES", 4 * 50 * DIM * 4)
    candidates = np.random.default_rng(2).permuted(np.tile(np.arange(ROWS), (len(queries), 1)), axis=1)[
        :, :50
    ]
    candidates[3, 5:] = -1
    distances, rows = refine(queries, candidates, store, 10)
    true = cdist(queries, vectors, "sqeuclidean")
    for query in (0, 1, 29):
        expected = sorted(candidates[query], key=lambda row: true[query, row])[:10]
        assert rows[query].tolist() == expected
    assert set(rows[3, :5]) == set(candidates[3, :5]) and (rows[3, 5:] == -1).all()
    assert np.isinf(distances[3, 5:]).all()


def test_int8_levels_are_finer_than_those_of_the_widest_component(vectors):
    spiked = np.vstack([vectors[:499], np.eye(1, DIM, dtype=np.float32)])
    widest = 1 / 127
    chosen = calibrated_step(spiked)

    def error(step):
        levels = np.clip(np.rint(spiked / step), -127, 127) * step
        return ((levels - spiked) ** 2).sum()

    assert chosen < widest and error(chosen) < error(widest)


def test_a_file_of_other_vectors_is_refused(vectors, tmp_path):
    stored(tmp_path, vectors, "fp16")
    with pytest.raises(ArtifactError, match=r"\(3000, 48\) float16"):
        VectorStore(tmp_path / "vectors.npy", VectorLayout(ROWS, DIM, "fp32"))
    (tmp_path / "vectors.npy").write_bytes(b"no vectors")
    with pytest.raises(ArtifactError, match="not a complete vector file"):
        VectorStore(tmp_path / "vectors.npy", VectorLayout(ROWS, DIM, "fp16"))


def test_writers_in_several_processes_leave_each_others_rows_alone(vectors, tmp_path):
    path, layout = tmp_path / "vectors.npy", VectorLayout(*vectors.shape)
    with pytest.raises(FileNotFoundError):
        VectorWriter(tmp_path / "not mounted" / "vectors.npy", layout, shared=True)
    assert not list(tmp_path.iterdir())
    VectorWriter(path, layout).close()
    writers = [VectorWriter(path, layout, shared=True) for _ in "abc"]
    for number, start in enumerate(range(0, ROWS, 100)):
        writers[number % 3].write(start, vectors[start : start + 100])
    late = VectorWriter(path, layout, shared=True)
    for writer in (*writers, late):
        writer.close()
    assert np.array_equal(VectorStore(path, layout).slice(0, ROWS), vectors)
