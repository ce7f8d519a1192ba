"""A student learns a teacher's probabilities: by the formula, and where the labels contradict it."""

import csv

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ranker_toys import WORDS, backbone, files, rows

from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.questions import LETTERS, Questions
from kaggle_rag.rankers.trained import TrainedRanker
from kaggle_rag.runtime.errors import ArtifactError, InputError
from training.rankers.distillation import divergence, read_teacher, with_lighter_labels
from training.rankers.losses import cross_entropy
from training.rankers.settings import MultipleChoiceRun
from training.rankers.train import train_ranker

SURE = 0.98


def teacher_file(path, questions, tables, **notes):
    Predictions.of(questions, np.zeros(len(questions), np.int64), tables, notes).write(path)
    return path


def test_the_divergence_is_that_of_torch_at_a_temperature():
    torch.manual_seed(0)
    logits, temperature = torch.randn(4, 3, requires_grad=True), 2.5
    present = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 0, 1]]).bool()
    soft = torch.rand(4, 3) * present
    soft = soft / soft.sum(1, keepdim=True)
    soft[2] = 0  # The teacher has not answered this one.
    total = 0
    for row in (0, 1, 3):
        kept = present[row]
        teacher = (soft[row][kept].log() / temperature).softmax(0)
        student = (logits[row][kept] / temperature).log_softmax(0)
        total = total + temperature**2 * F.kl_div(student, teacher, reduction="sum")
    (expected,) = torch.autograd.grad(total / 4, logits)
    found = divergence(logits, {"soft": soft, "present": present}, temperature)
    torch.testing.assert_close(found, total.detach() / 4)
    torch.testing.assert_close(torch.autograd.grad(found, logits)[0], expected)


def test_questions_that_count_less_count_less_here_too():
    logits, soft = torch.zeros(2, 2), torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    batch = {"soft": soft, "present": torch.ones(2, 2).bool()}
    alone = [divergence(logits[n : n + 1], {k: v[n : n + 1] for k, v in batch.items()}, 1.0) for n in (0, 1)]
    weighted = divergence(logits, {**batch, "weights": torch.tensor([1.0, 0.25])}, 1.0)
    torch.testing.assert_close(weighted, (alone[0] + 0.25 * alone[1]) / 2)


def test_without_the_teacher_s_answer_a_question_counts_in_full():
    soft = torch.tensor([[0.9, 0.1], [0.0, 0.0], [0.0, 0.0]])
    batch = {"soft": soft, "present": torch.ones(3, 2).bool(), "labels": torch.tensor([0, 0, 1])}
    logits = torch.tensor([[0.3, -0.2], [1.0, 2.0], [-1.0, 0.5]])
    ones = F.cross_entropy(logits, batch["labels"], reduction="none")
    for weights in ({}, {"weights": torch.tensor([0.5, 0.25, 1.0])}):
        counts = weights.get("weights", torch.ones(3)) * torch.tensor([0.25, 1, 1])
        found = cross_entropy(logits, with_lighter_labels({**batch, **weights}, 0.75), 0.0)
        torch.testing.assert_close(found, (ones * counts).sum() / 3)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Questions whose stored answers are wrong, and a teacher that knows the right ones."""
    folder = tmp_path_factory.mktemp("task")
    right = rows(192, 0, words=WORDS[:6])
    files(folder, "right", right)
    known = Questions.read(folder / "right.csv")
    wrong = [{**row, "answer": LETTERS[(LETTERS.index(row["answer"]) + 1) % 3]} for row in right]
    questions, contexts = files(folder, "wrong", wrong)
    table = np.full((len(right), 3), (1 - SURE) / 2, np.float32)
    table[np.arange(len(right)), known.answers] = SURE
    teacher = teacher_file(folder / "teacher.parquet", Questions.read(questions), {"blend": table})
    held, held_contexts = files(folder, "held", rows(60, 1, words=WORDS[:6]))
    settings = {
        "model": str(backbone("bert", folder / "bert")), "questions": questions, "contexts_file": contexts,
        "validation": held, "validation_contexts": held_contexts, "max_tokens": 48, "batch": 16,
        "device": "cpu", "learning_rate": 1e-3, "epochs": 12,
    }  # fmt: skip
    return {"settings": settings, "teacher": teacher, "table": table}


def score(folder, task):
    settings = task["settings"]
    questions = Questions.read(settings["validation"])
    with TrainedRanker(str(folder), device="cpu") as ranker:
        found = ranker.probabilities(questions, read_contexts(settings["validation_contexts"], questions))
    return float((found.argmax(axis=1) == questions.answers).mean())


def test_a_student_follows_the_teacher_where_the_labels_are_wrong(task, tmp_path):
    scores = {}
    for share in (0.0, 1.0):
        run = MultipleChoiceRun(
            **task["settings"], out=tmp_path / f"s{share}", teacher=task["teacher"], teacher_weight=share
        )
        train_ranker("multiple-choice", run)
        scores[share] = score(tmp_path / f"s{share}", task)
    assert scores[1.0] > 0.9 and scores[0.0] < 0.6


def test_the_teacher_s_table_is_found_by_the_questions(task, tmp_path):
    questions = Questions.read(task["settings"]["questions"])
    order = np.random.default_rng(0).permutation(len(questions))
    both = dict.fromkeys("ab", task["table"][order])
    shuffled = teacher_file(tmp_path / "t.parquet", questions.take(order.tolist()), both)
    for name in ("", "a"):
        np.testing.assert_allclose(read_teacher(shuffled, name, questions), task["table"], atol=1e-6)
    half = teacher_file(tmp_path / "h.parquet", questions.take(range(10)), {"a": task["table"][:10]})
    found = read_teacher(half, "", questions)
    np.testing.assert_allclose(found[:10], task["table"][:10], atol=1e-6)
    assert not found[10:].any()


@pytest.mark.parametrize(
    ("notes", "table"), [({}, "blend"), ({"mix": "stack"}, "stack"), ({"mix": "blend"}, "blend")]
)
def test_a_cross_validation_teaches_by_the_mix_that_it_would_submit(notes, table, task, tmp_path):
    questions = Questions.read(task["settings"]["questions"])
    tables = {"blend": task["table"], "stack": task["table"][:, [1, 2, 0]], "a": task["table"][:, [2, 0, 1]]}
    made = teacher_file(tmp_path / "oof.parquet", questions, tables, **notes)
    np.testing.assert_allclose(read_teacher(made, "", questions), tables[table], atol=1e-6)


def test_a_teacher_of_something_else_is_refused(task, tmp_path):
    questions = Questions.read(task["settings"]["questions"])
    other = Questions.read(task["settings"]["validation"])
    table = np.full((len(other), 3), 1 / 3, np.float32)
    with pytest.raises(InputError, match="answers none of the questions"):
        read_teacher(teacher_file(tmp_path / "o.parquet", other, {"a": table}), "", questions)
    with pytest.raises(InputError, match="no predictions of 'z'"):
        read_teacher(task["teacher"], "z", questions)
    with (tmp_path / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerow(["id", "prediction"])
    with pytest.raises(ArtifactError, match="not a predictions file"):
        read_teacher(tmp_path / "x.csv", "", questions)
