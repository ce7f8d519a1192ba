"""Rankings against plain products of the vectors, and against bm25s asked one text at a time."""

import bm25s
import numpy as np
import pytest

import training.selection.search as search
from kaggle_rag.index.lexical import stems

NAMES = ["iron", "copper", "gold", "zinc", "lead", "tin"]
POOL = [f"Which metal rusts at {n} degrees? {NAMES[n % 6]} {NAMES[n % 5]}" for n in range(30)]
ASKED = ["Does gold rust?", "copper and tin melt", "rusts at 7 degrees"]


@pytest.mark.parametrize("k", [1, 8, 30])
def test_vectors_rank_by_their_cosines(k, tiny, tmp_path, monkeypatch):
    # Several batches, and several blocks of the file.
    monkeypatch.setattr(search, "_BATCH", 7)
    found = search.DenseSearch(ASKED, POOL, tiny, tmp_path)
    cosines = tiny.encode_queries(ASKED).astype(np.float64) @ tiny.encode_passages(POOL).T
    hits = found.nearest(k)
    assert hits.rows.shape == (3, k)
    for own, rows, scores in zip(cosines, hits.rows, hits.scores):
        np.testing.assert_allclose(scores, np.sort(own)[::-1][:k], atol=1e-5)
        np.testing.assert_allclose(own[rows], scores, atol=1e-5)
        assert len(set(rows.tolist())) == k
    np.testing.assert_allclose(found.means(), cosines.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.scores(np.array([4, 2])), cosines[:, [4, 2]], atol=1e-5)


def test_equal_scores_are_in_the_order_of_the_pool(tiny, tmp_path):
    found = search.DenseSearch(["iron"], ["gold", "iron", "gold", "iron", "gold"], tiny, tmp_path).nearest(5)
    assert found.rows[0, :2].tolist() == [1, 3] and found.rows[0, 2:].tolist() == [0, 2, 4]


def test_words_rank_by_bm25(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "_QUERIES", 2)
    found = search.LexicalSearch([*ASKED, "nothing shared"], POOL, tmp_path)
    model = bm25s.BM25(method="lucene")
    model.index([stems(text) for text in POOL], show_progress=False)
    expected = np.stack([model.get_scores(stems(text)) for text in ASKED] + [np.zeros(30)])
    hits = found.nearest(30)
    for own, rows, scores in zip(expected, hits.rows, hits.scores):
        shared = int((own > 0).sum())
        np.testing.assert_allclose(scores[:shared], np.sort(own)[::-1][:shared], rtol=1e-5)
        np.testing.assert_allclose(own[rows[:shared]], scores[:shared], rtol=1e-5)
        assert set(rows[shared:]) <= {-1}
    np.testing.assert_allclose(found.means(), expected.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.scores(np.array([4, 2])), expected[:, [4, 2]], rtol=1e-5)
