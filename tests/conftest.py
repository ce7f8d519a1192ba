"""Fixtures: the real encoder, and the real data that only this project's workplace has."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def encoder():
    """all-MiniLM-L6-v2 from its PyPI package."""
    from kaggle_rag.retrieval.encoder import Encoder

    return Encoder()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data; a user's clone does not have it."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data sets in {SHARED}, which a clone does not have")
    return SHARED
