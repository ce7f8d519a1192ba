"""Encoding on a Ray cluster of two local nodes: lost nodes, errors, Ctrl-C, and the run without Ray."""

import dataclasses
import shutil
import signal
import sys

import pytest
from build_toys import call, same
from conftest import write_corpus
from ray_toys import Gate, LocalCluster, Program, needs_loopback

from kaggle_rag.index.index import Index
from kaggle_rag.index.vectors import VectorLayout
from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.files import whole_file
from kaggle_rag.text.units import Unit
from wiki_index.build import build
from wiki_index.corpus import Corpus
from wiki_index.plan import Plan

pytest.importorskip("ray")

# Enough shards for a node to be lost in the midst of them.
ARTICLES, ROWS, SHARDS = 320, 160, 16

_BUILD = """
import signal, sys; from pathlib import Path; from shutil import rmtree
# A suite that was started in the background hands on that Ctrl-C is to be ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.text.units import Unit
from wiki_index.build import build
from wiki_index.corpus import Corpus
from wiki_index.plan import Cluster, Plan
corpus, out, model, reuse, rows, address, *gone = sys.argv[1:]
encoders = {"tiny": Encoder(model, device="cpu")}
for folder in gone:
    rmtree(folder)
plan = Plan(Corpus.open(corpus), Path(out), encoders, Unit("sentence"), reuse=Path(reuse),
            shard_rows=int(rows), cluster=Cluster(address))
sys.exit(run_program(lambda: int(not build(plan))))
"""


def driver(plan, address, *gone):
    """A build in a process of its own."""
    words = [plan.corpus.path, plan.out, plan.encoders["tiny"].card.name, plan.reuse, plan.shard_rows]
    return Program(plan.out.with_suffix(".log"), "-c", _BUILD, *words, address, *gone)


def marks(plan):
    return len(list(plan.dense("tiny").glob("encoded/0*")))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    gate = Gate("wiki_index.steps.shard_encoder", "ShardEncoder", "write", beyond=2)
    made = LocalCluster(tmp_path_factory.mktemp("cluster") / "log", gate)
    yield made
    made.close()


@pytest.fixture(scope="module")
def plan(tiny, tmp_path_factory):
    """A build that takes over the vectors of an older index where it can."""
    folder = tmp_path_factory.mktemp("plain")
    texts = [" ".join(f"Ore {a} holds {s * a} grams of gold." for s in range(8)) for a in range(ARTICLES)]
    older = Corpus.open(write_corpus(folder / "older.jsonl", texts[::50]))
    build(Plan(older, folder / "older", {"tiny": tiny}, Unit("sentence")))
    corpus = Corpus.open(write_corpus(folder / "articles.jsonl", texts))
    return Plan(
        corpus, folder / "out", {"tiny": tiny}, Unit("sentence"), reuse=folder / "older", shard_rows=ROWS
    )


@pytest.fixture(scope="module")
def plain(plan):
    """The index that the run without Ray makes."""
    build(plan)
    assert len(Index(plan.out).manifest.shard_rows) == SHARDS
    return plan.out


def stopped_behind(shards, plan, monkeypatch):
    """A build without Ray, interrupted when so many shards are encoded."""
    made = []

    def whole(path):
        if path.parent.name == "encoded":
            made.append(path)
            if len(made) > shards:
                raise KeyboardInterrupt
        return whole_file(path)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("wiki_index.steps.encode.whole_file", whole)
        build(plan)
    assert marks(plan) == shards


@pytest.mark.slow
@needs_loopback
def test_begun_without_ray_then_on_two_nodes_one_of_them_killed_the_index_is_the_same(
    cluster, plan, plain, tmp_path, monkeypatch
):
    plan = dataclasses.replace(plan, out=tmp_path / "out")
    stopped_behind(2, plan, monkeypatch)
    cluster.hold()
    driving = driver(plan, cluster.address)
    driving.until(lambda: cluster.held() == 2)
    cluster.kill_a_node()
    cluster.let_go()
    code, said = driving.end()
    assert code == 0, said
    assert "raylet" not in said and "Traceback" not in said
    assert same(plan.out, plain)


@pytest.mark.slow
@needs_loopback
def test_interrupted_on_ray_and_ended_without_the_index_is_the_same(cluster, plan, plain, tmp_path):
    plan = dataclasses.replace(plan, out=tmp_path / "out")
    cluster.hold()
    driving = driver(plan, cluster.address)
    driving.until(lambda: cluster.held() and marks(plan) == 3)
    driving.process.send_signal(signal.SIGINT)
    code, said = driving.end()
    cluster.let_go()
    assert code == 130 and "interrupted: only complete files" in said and "Traceback" not in said
    assert 1 < marks(plan) < SHARDS and not list(plan.work.glob(".*.part"))
    build(plan)
    assert same(plan.out, plain)


@pytest.mark.slow
@needs_loopback
def test_what_goes_wrong_on_a_node_is_one_message_that_names_the_node(cluster, plan, tmp_path):
    from kaggle_rag.index.encoder import Encoder

    model = shutil.copytree(plan.encoders["tiny"].card.name, tmp_path / "model")
    plan = dataclasses.replace(
        plan, out=tmp_path / "out", encoders={"tiny": Encoder(str(model), device="cpu")}
    )
    code, said = driver(plan, cluster.address, model).end()
    assert code == 2 and said.count("error:") == 1 and "Traceback" not in said
    assert "error: on node" in said and f"no model '{model}' on this machine" in said
    assert not marks(plan) and not list(plan.work.glob(".*.part"))


def test_a_node_that_does_not_see_the_work_folder_says_so_and_does_not_make_it(plan, tmp_path):
    from kaggle_rag.runtime.crew import Share, Worker
    from wiki_index.steps.ray_encode import EncodeJob

    elsewhere = dataclasses.replace(plan, out=tmp_path / "not" / "mounted", encoders={})
    card = plan.encoders["tiny"].card
    job = EncodeJob(elsewhere, "tiny", card, card.name, VectorLayout(10, card.dim))
    with pytest.raises(ArtifactError, match=r"on node .*does not see the work folder"):
        Worker(job, Share(1, 0), elsewhere.work / ".token.part").open()
    assert not (tmp_path / "not").exists()


def on_ray(plan, tmp_path, *more):
    return ["build", plan.corpus.path, tmp_path / "out", "--encoder", plan.encoders["tiny"].card.name, *more]


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_without_the_package_the_message_says_what_to_install(dry, plan, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    # Both would stand as they were imported with the package, one as an attribute of its folder too.
    monkeypatch.delitem(sys.modules, "wiki_index.steps.ray_encode", raising=False)
    monkeypatch.delitem(sys.modules, "kaggle_rag.runtime.crew", raising=False)
    monkeypatch.delattr("kaggle_rag.runtime.crew", raising=False)
    assert call(*on_ray(plan, tmp_path, "--workers", "ray", *dry), monkeypatch=monkeypatch) == 2
    said = capsys.readouterr().err
    assert 'pip install "ray[data]' in said and "distributed" in said and not list(tmp_path.iterdir())


@needs_loopback
@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "ray://127.0.0.1:10001", "nonsense"])
def test_a_wrong_address_is_refused_before_anything_is_written(address, plan, tmp_path, monkeypatch, capsys):
    command = on_ray(plan, tmp_path, "--workers", "ray", "--ray-address", address)
    assert call(*command, monkeypatch=monkeypatch) == 2
    assert f"--ray-address: no Ray cluster at '{address}'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_address_without_ray_workers_is_refused(plan, tmp_path, monkeypatch, capsys):
    assert call(*on_ray(plan, tmp_path, "--ray-address", "auto"), monkeypatch=monkeypatch) == 2
    assert "add --workers ray" in capsys.readouterr().err
