"""Contexts and predictions on a Ray cluster of two local nodes: lost nodes, errors, and without Ray."""

import dataclasses
import json
import signal
import sys

import pytest
from ray_toys import Gate, LocalCluster, Program, needs_loopback

from inference import __main__ as program
from inference.batches import Asked, HandedOut, batch_file
from kaggle_rag.config import RankerSettings, Solution
from kaggle_rag.data.contexts import (
    Context,
    QuestionContexts,
    lines_as_snippets,
    read_contexts,
    write_contexts,
)
from kaggle_rag.data.questions import Questions
from kaggle_rag.rankers.resources import Resources
from kaggle_rag.runtime.errors import ArtifactError, CheckpointError, InputError, run_program

pytest.importorskip("ray")

# Three batches of answers; many of both.
FEW, MANY = 1_300, 10_000


def write_some(path, count):
    """Generated questions: of three or four options, some with a context of their own."""
    with path.open("w") as file:
        for n in range(count):
            row = {"id": n, "prompt": f"How many grams does ore {n % 60} hold, in {n}?"}
            row |= {"A": f"{n % 7} grams", "B": f"{n % 11} of it", "C": f"ore {n % 5}"}
            row |= {"D": f"none of {n}"} if n % 3 else {}
            row |= {"context": f"Ore {n} holds {n % 7} grams.\n\nIt is heavy."} if n % 10 == 0 else {}
            file.write(json.dumps(row) + "\n")
    return path


def run(log, *words):
    """``python -m inference`` in a process of its own."""
    return Program(log, "-m", "inference", *words)


def losing_a_node(cluster, log, *words):
    """A run on the cluster, of whose nodes one is killed while both are at work."""
    cluster.hold()
    running = run(log, *words, "--workers", "ray", "--ray-address", cluster.address)
    running.until(lambda: cluster.held() == 2)
    cluster.kill_a_node()
    cluster.let_go()
    code, said = running.end()
    assert code == 0, said
    assert "raylet" not in said and "Traceback" not in said


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A worker is held at its first batch behind the first one."""
    made = LocalCluster(
        tmp_path_factory.mktemp("cluster") / "log", Gate("inference.batches", "HandedOut", "read", beyond=0)
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """Questions, and contexts that no search had to find."""
    folder = tmp_path_factory.mktemp("ready")
    questions = Questions.read(write_some(folder / "q.jsonl", FEW))
    contexts = [QuestionContexts(Context(lines_as_snippets(p), ()), ()) for p in questions.prompts]
    write_contexts(folder / "c.parquet", questions, contexts, {})
    return folder


@pytest.fixture(scope="module")
def predict(ready, tiny):
    """The words of the command, but for its --out."""
    return [
        "predict", "--questions", ready / "q.jsonl", "--contexts-file", ready / "c.parquet",
        "--encoder", tiny.card.name, "--set", "rankers=[{kind: similarity, options: {score: novel}}]",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def alone(predict, ready):
    """The predictions of a run without Ray."""
    out = ready / "alone.predictions"
    code, said = run(ready / "alone.log", *predict, "--out", out).end()
    assert code == 0, said
    return (out / "similarity.parquet").read_bytes()


@pytest.mark.slow
@needs_loopback
def test_killed_on_ray_and_ended_without_the_predictions_are_the_same(cluster, predict, alone, tmp_path):
    out = tmp_path / "p.predictions"
    cluster.hold()
    running = run(
        tmp_path / "log", *predict, "--out", out, "--workers", "ray", "--ray-address", cluster.address
    )
    finished = out / ".similarity.batches" / "0000000.parquet"
    running.until(lambda: finished.exists() and cluster.held())
    running.process.send_signal(signal.SIGKILL)
    running.end()
    cluster.let_go()
    assert not (out / "similarity.parquet").exists()
    code, said = run(tmp_path / "log", *predict, "--out", out).end()
    assert code == 0 and not finished.parent.exists(), said
    assert (out / "similarity.parquet").read_bytes() == alone


@pytest.mark.slow
@pytest.mark.long
@needs_loopback
def test_ten_thousand_questions_with_a_node_killed_half_way(whole, tiny, tmp_path):
    questions = write_some(tmp_path / "q.jsonl", MANY)
    find = ["contexts", "--questions", questions, "--index", whole]
    find += ["--set", "contexts.hits=3", "--set", "contexts.keep=3"]
    ask = ["predict", "--questions", questions, "--encoder", tiny.card.name]
    ask += ["--set", "rankers=[{kind: similarity, options: {score: novel}}]"]
    contexts, predictions = tmp_path / "c.parquet", tmp_path / "p.predictions"
    for words in ([*find, "--out", contexts], [*ask, "--contexts-file", contexts, "--out", predictions]):
        code, said = run(tmp_path / "log", *words).end()
        assert code == 0, said
    half_way = Gate("inference.batches", "HandedOut", "read", beyond=MANY // 2)
    cluster = LocalCluster(tmp_path / "cluster.log", half_way)
    try:
        losing_a_node(cluster, tmp_path / "log", *find, "--out", tmp_path / "ray.parquet")
        assert (tmp_path / "ray.parquet").read_bytes() == contexts.read_bytes()
        cluster.add_a_node()
        out = tmp_path / "ray.predictions"
        losing_a_node(cluster, tmp_path / "log", *ask, "--contexts-file", contexts, "--out", out)
    finally:
        cluster.close()
    assert (out / "similarity.parquet").read_bytes() == (predictions / "similarity.parquet").read_bytes()
    names = {"similarity.parquet", "key.json", "run.json", ".lock", ".kept"}
    assert {path.name for path in out.iterdir()} == names


def test_a_node_that_does_not_see_the_files_says_which_and_makes_none(ready, tiny, tmp_path):
    from inference.ray_batches import AnswerJob, ContextJob
    from kaggle_rag.runtime.crew import Share, Worker

    solution, share = Solution(encoder=tiny.card.name, index=tmp_path / "index"), Share(1, 0)
    trained = RankerSettings(kind="trained", options={"folder": "/nfs/deberta"})
    hidden, seen = tmp_path / "not" / "mounted", tmp_path / "token"
    seen.touch()
    job = AnswerJob(solution.model_copy(update={"index": None}), RankerSettings(), "similarity", hidden)
    with pytest.raises(ArtifactError, match=r"on node .*does not see the work folder"):
        Worker(job, share, hidden / "token").open()
    with pytest.raises(CheckpointError, match=r"on node (.|\n)*/nfs/deberta"):
        Worker(dataclasses.replace(job, settings=trained), share, seen).open()
    with pytest.raises(InputError, match=r"on node .*/index: no such index folder"):
        Worker(ContextJob(solution, hidden, 4), share, seen).open()
    assert not hidden.parent.exists()


def call(*words, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["inference", *map(str, words)])
    return run_program(program.main)


@pytest.fixture(params=["contexts", "predict"])
def command(request, predict, whole, ready, tmp_path):
    """Either command, on Ray, and what it would write."""
    if request.param == "predict":
        return [*predict, "--out", tmp_path / "p.predictions", "--workers", "ray"]
    search = ["contexts", "--questions", ready / "q.jsonl", "--index", whole]
    return [*search, "--out", tmp_path / "c.parquet", "--workers", "ray"]


def test_without_the_package_the_message_says_what_to_install(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "inference.ray_batches", raising=False)
    monkeypatch.delitem(sys.modules, "kaggle_rag.runtime.crew", raising=False)
    monkeypatch.delattr("kaggle_rag.runtime.crew", raising=False)
    assert call(*command, monkeypatch=monkeypatch) == 2
    said = capsys.readouterr().err
    assert 'pip install "ray[data]' in said and said.count("error:") == 1 and not list(tmp_path.iterdir())


@needs_loopback
@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_a_wrong_address_is_refused_before_anything_is_written(
    address, command, tmp_path, monkeypatch, capsys
):
    assert call(*command, "--ray-address", address, monkeypatch=monkeypatch) == 2
    said = capsys.readouterr().err
    assert f"--ray-address: no Ray cluster at '{address}'" in said and said.count("error:") == 1
    assert not list(tmp_path.iterdir())


def test_batches_that_are_searched_together_are_stored_one_by_one(facts_index, tmp_path):
    """Of the size that a run without a cluster stores: either goes on with the other's."""
    from inference.ray_batches import ContextJob
    from kaggle_rag.runtime.crew import Share

    questions = Questions.read(write_some(tmp_path / "q.jsonl", 11))
    solution = Solution(index=facts_index, device="cpu")
    HandedOut(tmp_path).write(Asked(4, questions.take(range(4, 11))))
    ContextJob(solution, tmp_path, 4).open(Share(1, 0))(4, 8)
    alone = Resources.open(solution).retriever()(questions)
    for start, rows in ((4, range(4, 8)), (8, range(8, 11))):
        read = read_contexts(batch_file(tmp_path, start), questions.take(rows))
        assert [each.shared.text for each in read] == [alone[row].shared.text for row in rows]
