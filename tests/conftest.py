"""Fixtures: the real encoder, and the real data that only this project's workplace has."""

import gc
import json
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

# Fixtures that several files share, too long for this one.
pytest_plugins = ["streaming_fixtures"]

# A slow machine is no fault of the code, and a failure in CI must be the same here.
settings.register_profile(
    "kit",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("kit")

ROOT = Path(__file__).parent.parent
# Passages of a shard in the builds of the tests.
ROWS = 100
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module", autouse=True)
def imported_once():
    """What is imported by now stays: each of the kit's own collections would look through all of it.

    Every stage of a program ends with one, and a process of tests holds more than a program does.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def encoder():
    """all-MiniLM-L6-v2 from its PyPI package."""
    from kaggle_rag.index.encoder import Encoder

    return Encoder()


FACTS = {
    "Mars": "Mars has two moons. Phobos is the larger moon of Mars. Deimos is the smaller moon of Mars.",
    "Copper": "Copper melts at 1,085 °C. Copper is a good conductor. Copper melts at 1,085 °C.",
    "Bees": "A honey bee has five eyes. Worker bees live for six weeks in summer.",
}


@pytest.fixture(scope="session")
def facts_index(encoder, tmp_path_factory):
    """An index of three short articles."""
    from kaggle_rag.text.units import Unit
    from wiki_index.build import build
    from wiki_index.corpus import Corpus
    from wiki_index.plan import Plan

    folder = tmp_path_factory.mktemp("facts")
    corpus = folder / "facts.jsonl"
    corpus.write_text("".join(json.dumps({"title": t, "text": x}) + "\n" for t, x in FACTS.items()))
    build(Plan(Corpus.open(corpus), folder / "index", {"minilm": encoder}, Unit("sentence")))
    return folder / "index"


def pytest_collection_modifyitems(items):
    """The files of whole programs first: no worker is to be left alone with them at the end."""
    items.sort(key=lambda item: "programs" not in item.path.parts)


@pytest.fixture(scope="session")
def sample_index(encoder, tmp_path_factory, worker_id):
    """The index of the embedded encyclopedia, which takes ten seconds: one for all workers of a run."""
    from kaggle_rag.sample import ARTICLES
    from kaggle_rag.text.units import Unit
    from wiki_index.build import build
    from wiki_index.corpus import Corpus
    from wiki_index.plan import Plan

    folder = tmp_path_factory.getbasetemp()
    out = (folder if worker_id == "master" else folder.parent) / "sample" / "index"
    out.parent.mkdir(exist_ok=True)
    with FileLock(out.with_name("lock")):
        # A second worker finds it finished.
        build(Plan(Corpus.open(ARTICLES), out, {"minilm": encoder}, Unit("sentence")))
    return out


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data; a user's clone does not have it."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data sets in {SHARED}, which a clone does not have")
    return SHARED


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A user's own encoder of two tiny layers."""
    from model_toys import tiny_model

    from kaggle_rag.index.encoder import Encoder

    return Encoder(str(tiny_model(tmp_path_factory.mktemp("tiny"))), device="cpu")


def write_corpus(path, texts):
    path.write_text("".join(json.dumps({"title": f"T{n}", "text": t}) + "\n" for n, t in enumerate(texts)))
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """60 articles of 6 sentences."""
    texts = [" ".join(f"Ore {a} holds {s * a} grams of it." for s in range(6)) for a in range(60)]
    return write_corpus(tmp_path_factory.mktemp("corpus") / "articles.jsonl", texts)


@pytest.fixture(scope="session")
def whole(corpus, tiny, tmp_path_factory):
    """The index of an undisturbed build of `corpus`."""
    from kaggle_rag.text.units import Unit
    from wiki_index.build import build
    from wiki_index.corpus import Corpus
    from wiki_index.plan import Plan

    out = tmp_path_factory.mktemp("whole") / "index"
    build(Plan(Corpus.open(corpus), out, {"minilm": tiny}, Unit("sentence"), shard_rows=ROWS))
    return out
