"""Every kind of index over drawn vectors: made, killed, tuned, against exact search."""

import dataclasses
import os
import shutil
import subprocess
import sys

import faiss
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from kaggle_rag.index.dense import Dense
from kaggle_rag.index.kinds import (
    KINDS,
    choose,
    factory_of,
    impossible,
    kind_of,
    lists_for,
    lists_of,
    ram_of,
    simpler,
    unfit,
)
from kaggle_rag.index.manifest import DenseCard, EncoderCard
from kaggle_rag.index.vectors import VectorLayout, VectorStore, VectorWriter
from kaggle_rag.runtime.errors import ConfigError, LimitError
from wiki_index.steps.dense_index import make_index
from wiki_index.steps.tune import tune

ROWS, DIM = 24_000, 32
ENCODER = EncoderCard("drawn", "0" * 64, DIM, 16, "", "")


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(300, DIM))
    return unit(centres[rng.integers(0, 300, ROWS)] + 0.6 * rng.normal(size=(ROWS, DIM)))


@pytest.fixture(scope="module")
def queries(vectors):
    return unit(vectors[::240] + 0.1 * np.random.default_rng(1).normal(size=(100, DIM)))


@pytest.fixture(scope="module")
def nearest(vectors, queries):
    return np.argsort(cdist(queries, vectors, "sqeuclidean"), axis=1)[:, :10]


def store_of(folder, vectors, precision="fp32"):
    layout = VectorLayout(*vectors.shape, precision)
    writer = VectorWriter(folder / "vectors.npy", layout)
    writer.write(0, vectors)
    writer.close()
    return VectorStore(folder / "vectors.npy", layout)


def made(folder, kind, vectors, kept_every=7_000):
    precision = kind_of(kind).vectors
    index = make_index(folder, kind, store_of(folder, vectors, precision), kept_every)
    card = DenseCard(ENCODER, kind, index.factory, precision, trained_on=index.trained_on)
    return Dense(folder, card, len(vectors))


# FAISS's own descriptions: lists, lists of fewer dimensions, a graph, codes alone.
DESCRIBED = ["IVF128,SQ8", "PCA24,IVF64,SQ8", "HNSW16,SQ8", "PCA28,HNSW32", "PQ16x4", "IVF1,SQ8"]


@pytest.mark.parametrize("kind", [*KINDS, *DESCRIBED])
def test_every_kind_reaches_its_recall_and_its_distances_are_exact(kind, vectors, queries, nearest, tmp_path):
    dense = made(tmp_path, kind, vectors)
    dense = Dense(tmp_path, tune(dense, queries, 0.95), ROWS)
    distances, rows = dense.search(queries, 10)
    found = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, nearest)])
    assert found >= 0.95 and dense.faiss.ntotal == ROWS
    assert dense.card.recall == pytest.approx(found, abs=0.01) or dense.card.queries == 0
    true = np.take_along_axis(cdist(queries, vectors, "sqeuclidean"), rows, axis=1)
    assert np.abs(distances - true).max() < 5e-3
    assert (np.diff(distances, axis=1) >= 0).all()


WITHOUT_VECTORS = """
import sys, faiss, numpy as np
from wiki_index.forecast import tell_slow
tell_slow(sys.argv[1])
index = faiss.read_index(sys.argv[2])
np.save(sys.argv[4], index.search(np.load(sys.argv[3]), 10)[1])
"""


@pytest.mark.parametrize(("kind", "said"), [("ivf-sq8", False), ("ivf-rabitq", True), ("ivf-pq", True)])
def test_without_avx2_an_index_finds_the_same_and_the_user_hears_what_it_costs(
    kind, said, vectors, queries, tmp_path
):
    """FAISS reads FAISS_SIMD_LEVEL once, when it is imported."""
    dense = made(tmp_path, kind, vectors)
    np.save(tmp_path / "queries.npy", queries)
    files = [str(tmp_path / name) for name in ("index.faiss", "queries.npy", "found.npy")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_VECTORS, kind, *files],
        env={**os.environ, "FAISS_SIMD_LEVEL": "NONE"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ("neither AVX2 nor NEON" in done.stderr) == said
    same = np.load(tmp_path / "found.npy") == dense.faiss.search(queries, 10)[1]
    assert same.mean() > 0.99


@pytest.mark.parametrize("kind", DESCRIBED)
def test_a_described_index_is_that_of_faiss_and_takes_the_memory_that_was_foreseen(kind, vectors, tmp_path):
    dense = made(tmp_path, kind, vectors)
    assert type(dense.faiss) is type(faiss.index_factory(DIM, kind)) and dense.card.factory == kind
    if kind_of(kind).lists:
        assert faiss.extract_index_ivf(dense.faiss).nlist == lists_of(kind, ROWS)
    size = (tmp_path / "index.faiss").stat().st_size
    assert ram_of(kind, ROWS, DIM) == pytest.approx(size, rel=0.15)
    assert simpler(kind, ROWS, DIM) == kind


@pytest.mark.parametrize(
    "described, reason",
    [("IVF9,Nothing", "could not parse"), ("PQ7", "M"), ("IMI2x8,PQ8", "IMI"), ("NSG32", "NSG"), ("X", ""),
     ("IVF0,Flat", "IVF0"), ("HNSW0,Flat", "HNSW0"), ("PCA0,Flat", "PCA0"), ("PCA9999,Flat", "9999"),
     ("IDMap,Flat", "IDMap"), ("LSH", "LSH"), ("IVF64,PQ32x16", "x16")],
)
def test_what_faiss_does_not_make_is_refused_in_its_words(described, reason):
    assert reason in impossible(described, DIM) and impossible(described, DIM)
    assert "40 vectors are too few" in unfit("IVF64,SQ8", 40, DIM)
    assert "200 vectors are too few" in unfit("PQ8", 200, DIM)
    for possible in ("IVF1,SQ8", "PCA16,HNSW16", "OPQ8_16,IVF4096,PQ8", "L2norm,Flat", "IVF64,SQ8,RFlat"):
        assert not impossible(possible, DIM), possible
    assert lists_of("IVF2k,SQ8", ROWS) == 2048


@pytest.mark.parametrize("kind", ["ivf-sq8", "ivf-rabitq", "ivf-pq", "PCA24,IVF64,SQ8"])
def test_killed_while_it_grows_an_index_ends_with_the_same_bytes(kind, vectors, tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    made(whole, kind, vectors)
    slice_of, blocks = VectorStore.slice, []

    def dying(store, start, stop):
        blocks.append(start)
        if len(blocks) == 3:
            raise KeyboardInterrupt
        return slice_of(store, start, stop)

    monkeypatch.setattr(VectorStore, "slice", dying)
    with pytest.raises(KeyboardInterrupt):
        made(killed, kind, vectors)
    assert faiss.read_index(str(killed / "growing.faiss")).ntotal == 14_000
    made(killed, kind, vectors)
    assert blocks == [0, 7_000, 14_000, 14_000, 21_000]
    assert (whole / "index.faiss").read_bytes() == (killed / "index.faiss").read_bytes()


def test_an_index_that_was_kept_on_the_way_holds_the_same_as_one_made_at_once(vectors, tmp_path):
    for name, rows in (("once", ROWS), ("kept", 5_000)):
        (tmp_path / name).mkdir()
        made(tmp_path / name, "ivf-pq", vectors, rows)
    once, kept = (faiss.read_index(str(tmp_path / name / "index.faiss")) for name in ("once", "kept"))
    once.nprobe = kept.nprobe = 16
    found = [index.search(vectors[:50], 10)[1] for index in (once, kept)]
    assert (found[0] == found[1]).mean() > 0.99


def test_the_cheapest_setting_that_suffices_is_chosen_and_more_is_paid_for_more(vectors, queries, tmp_path):
    dense = made(tmp_path, "ivf-pq", vectors)
    low, high = tune(dense, queries, 0.7), tune(dense, queries, 0.99)
    assert 0.7 <= low.recall < high.recall and high.recall >= 0.99
    assert (low.nprobe, low.depth) < (high.nprobe, high.depth)
    best = tune(dense, queries, 1.1)
    assert best.recall >= high.recall


def test_asked_to_visit_all_lists_a_search_finds_what_brute_force_finds(vectors, queries, nearest, tmp_path):
    dense = made(tmp_path, "ivf-sq8", vectors)
    dense = Dense(tmp_path, dataclasses.replace(dense.card, nprobe=1, depth=100), ROWS)
    few, all_lists = (dense.search(queries, 10, nprobe=nprobe)[1] for nprobe in (None, 100_000))
    assert (np.sort(all_lists) == np.sort(nearest)).mean() > 0.99 > (few == all_lists).mean()


def test_a_search_for_more_than_the_lists_hold_says_what_is_missing(vectors, queries, tmp_path):
    dense = made(tmp_path, "ivf-sq8", vectors)
    dense = Dense(tmp_path, dataclasses.replace(dense.card, nprobe=1, depth=20), ROWS)
    distances, rows = dense.search(queries, 2_000)
    assert (rows[:, 0] >= 0).all() and (rows[:, -1] == -1).all() and np.isinf(distances[:, -1]).all()


@pytest.mark.parametrize(
    ("ram", "kind"),
    [(13.0, "flat"), (8.0, "fp16"), (4.0, "ivf-sq8"), (1.6, "ivf-rabitq"), (1.45, "ivf-pq")],
)
def test_a_budget_buys_the_most_exact_kind_that_fits(ram, kind):
    rows = 1_900_000 if kind in ("flat", "fp16") else 6_500_000
    dim = 1024 if kind in ("flat", "fp16") else 384
    assert choose(rows, dim, int(ram * 1e9), 1_000_000_000) == kind


def test_a_budget_too_small_for_anything_says_the_least_that_works():
    with pytest.raises(LimitError, match=r"at least (\d\.\d\d) GB") as found:
        choose(6_500_000, 384, 1_100_000_000, 1_000_000_000)
    least = float(str(found.value).split("at least ")[1].split(" GB")[0])
    assert choose(6_500_000, 384, int((least + 0.01) * 1e9), 1_000_000_000) == "ivf-pq"


def test_too_few_vectors_for_lists_give_a_simpler_kind():
    assert simpler("ivf-pq", 500, 384) == "sq8" and simpler("ivf-pq", 10**6, 384) == "ivf-pq"
    assert simpler("ivf-pq", 10**6, 100) == "ivf-rabitq" and simpler("flat", 1, 384) == "flat"
    assert choose(500, 384, 2 * 10**9, 10**9) == "flat"


def test_lists_grow_with_the_root_of_the_rows():
    counts = [lists_for(rows) for rows in (335_238, 6_500_000, 10_000_000, 120_000_000)]
    assert counts == [1024, 4096, 4096, 16384]
    assert factory_of("ivf-pq", 6_500_000, 384) == "IVF4096,PQ96x4fs"
    assert factory_of("ivf-pq", 120_000_000, 384) == "IVF16384_HNSW32,PQ96x4fs"


def test_a_kind_that_there_is_not_is_named_with_those_there_are():
    with pytest.raises(ConfigError, match=r"flat, fp16, sq8, ivf-sq8, ivf-rabitq, ivf-pq"):
        kind_of("hnsw")


@pytest.mark.parametrize("kind", KINDS)
def test_the_ram_that_a_kind_is_said_to_take_is_what_its_file_holds(kind, vectors, tmp_path):
    made(tmp_path, kind, vectors)
    said, file = ram_of(kind, ROWS, DIM), (tmp_path / "index.faiss").stat().st_size
    assert 0.8 * said < file < 1.35 * said
    shutil.rmtree(tmp_path)
