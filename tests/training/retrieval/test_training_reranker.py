"""A re-ranker that learns from questions, from look-alikes, and from a teacher."""

import shutil

import pytest
import torch
from interrupts import stop_at
from model_toys import tiny_cross_encoder
from safetensors.torch import load_file, save_file
from training_toys import KEYS, WORDS, toy, write_table

from kaggle_rag.evaluation import learnt
from kaggle_rag.retrieval.crossencoder import CrossEncoder
from kaggle_rag.runtime.errors import CheckpointError, InputError
from training.loop.trainer import Progress
from training.retrieval.cross_encoder import train_reranker
from training.retrieval.mining import Example
from training.retrieval.settings import RerankerSettings
from training.retrieval.teacher import soft_labels

LEARN = {"positive": "fact", "loss": "listnet", "negatives": 6, "batch": 8, "learning_rate": 3e-3,
         "epochs": 4, "candidates": 12, "depth": 12, "margin": 1.0}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    # Three facts answer all questions: what a tiny cross-encoder learns fast.
    made = toy(folder, facts=3)
    return made | {"encoder": made["model"], "model": str(tiny_cross_encoder(folder))}


def train(data, out, **changes):
    return train_reranker(RerankerSettings(**{**data, **LEARN, "out": out, **changes}))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "reranker"
    return out, train(data, out)


def test_the_right_passage_rises_on_a_task_that_can_be_learnt(trained):
    before, after = trained[1]["result"]["before"], trained[1]["result"]["after"]
    assert before["recall@5"] < 0.8 and after["recall@5"] == 1.0 and after["ndcg@10"] > before["ndcg@10"]


def test_the_trained_folder_scores_pairs_and_holds_nothing_pickled(trained):
    model = CrossEncoder(str(trained[0]), device="cpu")
    scores = model.scores([f"{KEYS[0]} one q1 one two six"] * len(WORDS), WORDS)
    assert scores[:3].mean() > scores[3:].mean()
    names = [path.name for path in trained[0].rglob("*")]
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".md"))]


def test_a_killed_run_goes_on_and_ends_with_the_weights_of_an_undisturbed_one(
    data, trained, tmp_path, monkeypatch
):
    steps = trained[1]["result"]["steps"]
    monkeypatch.setattr(Progress, "on_step_end", stop_at(steps - 3))
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "out")
    monkeypatch.undo()
    train(data, tmp_path / "out")
    left, right = (load_file(folder / "model.safetensors") for folder in (trained[0], tmp_path / "out"))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_an_encoder_is_given_a_head_by_the_seed(data, tmp_path, capsys):
    plain = {"model": data["encoder"], "epochs": 0.2}
    first = train(data, tmp_path / "a", **plain)["result"]["sha256"]
    assert "adding a new one" in capsys.readouterr().err
    assert train(data, tmp_path / "b", **plain)["result"]["sha256"] == first
    assert train(data, tmp_path / "c", **plain, seed=1)["result"]["sha256"] != first
    assert CrossEncoder(str(tmp_path / "a"), device="cpu").scores(["zq"], ["amber"]).shape == (1,)


EXAMPLES = [Example("1", "iron", "iron rusts", ("gold  shines",)), Example("2", "tin", "tin bends", ("x",))]


def test_a_teachers_table_gives_soft_labels_where_it_has_them(tmp_path):
    rows = [("1", "Gold shines", "0.25"), ("2", "tin bends", "1")]
    table = write_table(tmp_path / "t.csv", [dict(zip(("id", "passage", "score"), row)) for row in rows])
    found = soft_labels(str(table), EXAMPLES, "cpu")
    assert found == {("iron", "gold  shines"): 0.25, ("tin", "tin bends"): 1.0}


def test_a_teacher_model_scores_every_pair(data):
    found = soft_labels(data["model"], EXAMPLES, "cpu")
    model = CrossEncoder(data["model"], device="cpu")
    assert len(found) == 4
    for (query, passage), value in found.items():
        assert value == pytest.approx(float(model.scores([query], [passage])[0]), abs=1e-6)


def test_what_a_teacher_was_trained_on_its_student_was_too(data, trained, tmp_path):
    train(data, tmp_path / "student", loss="margin-mse", teacher=str(trained[0]), epochs=0.2)
    assert learnt.read(tmp_path / "student").marks >= learnt.read(trained[0]).marks != set()


def test_a_run_is_another_with_another_teacher_or_encoder_of_the_same_name(data, tmp_path):
    table = tmp_path / "t.csv"
    write_table(table, [{"id": "1", "passage": "iron rusts", "score": "1"}])
    taught = RerankerSettings(**{**data, **LEARN, "out": "o", "loss": "margin-mse", "teacher": str(table)})
    first = taught.plan()
    write_table(table, [{"id": "1", "passage": "iron rusts", "score": "0.5"}])
    assert taught.plan()["teacher"] != first["teacher"] and taught.teachers() == []
    moved = tmp_path / "encoder"
    shutil.copytree(data["encoder"], moved)
    mined = RerankerSettings(**{**data, **LEARN, "out": "o", "encoder": str(moved)})
    before = mined.plan()
    weights = load_file(moved / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, moved / "model.safetensors")
    assert mined.plan()["encoder"] != before["encoder"]
    table.unlink()
    with pytest.raises(InputError, match="no such file"):
        taught.check_inputs()


def test_a_student_comes_to_score_as_its_teacher(data, trained, tmp_path):
    """Margins of the teacher, learnt from its scores alone."""
    record = train(data, tmp_path / "student", loss="margin-mse", teacher=str(trained[0]))
    assert record["result"]["after"]["ndcg@10"] > record["result"]["before"]["ndcg@10"] + 0.1


@pytest.mark.parametrize(
    "row, message",
    [
        ({"id": "1", "passage": "gold shines"}, "column 'score' is missing"),
        ({"id": "1", "passage": "gold shines", "score": "7"}, "'7' is not a probability"),
        ({"id": "1", "passage": "gold shines", "score": "high"}, "'high' is not a probability"),
        ({"id": "9", "passage": "gold shines", "score": "0.5"}, "none of its 1 id"),
    ],
)
def test_a_teachers_table_that_does_not_fit_is_named(row, message, tmp_path):
    with pytest.raises(InputError, match=message):
        soft_labels(str(write_table(tmp_path / "t.csv", [row])), EXAMPLES, "cpu")


def test_a_teacher_without_a_head_is_refused(data, tmp_path):
    with pytest.raises(CheckpointError, match="no trained head"):
        train(data, tmp_path / "out", teacher=data["encoder"])


def test_a_loss_that_needs_a_teacher_says_so(data):
    with pytest.raises(ValueError, match="'margin-mse' learns from a teacher's scores"):
        RerankerSettings(**{**data, **LEARN, "out": "o", "loss": "margin-mse"})
