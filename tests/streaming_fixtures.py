"""Checkpoints that several tests of streaming read."""

import collections

import pytest
from ranker_toys import DECODERS, some
from streaming_toys import MORE, checkpoint

from kaggle_rag.models.streaming import shards


# A plain one, and one with all that a family may have.
@pytest.fixture(scope="module", params=some((*DECODERS, *MORE), "llama", "gemma2"))
def folder(request, tmp_path_factory):
    return checkpoint(request.param, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Five layers: enough to stop between two."""
    return checkpoint("llama", tmp_path_factory.mktemp("deep"), layers=5)


@pytest.fixture
def reads(monkeypatch):
    """How often each tensor is read."""
    counts = collections.Counter()

    class Counted:
        def __init__(self, *args, **options):
            self._file = real(*args, **options)

        def __enter__(self):
            self._open = self._file.__enter__()
            return self

        def __exit__(self, *given):
            return self._file.__exit__(*given)

        def get_tensor(self, name):
            counts[name] += 1
            return self._open.get_tensor(name)

    real = shards.safe_open
    monkeypatch.setattr(shards, "safe_open", Counted)
    return counts
