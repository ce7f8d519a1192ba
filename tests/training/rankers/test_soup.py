"""Weights averaged: by plain arithmetic in numpy, greedily by an enumerated choice, and along the arc."""

import json
import shutil

import numpy as np
import pytest
from ranker_toys import WORDS, backbone, files, rows
from safetensors.numpy import load_file, save_file

from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.data_maps import FILE
from kaggle_rag.models.card import RankerCard
from kaggle_rag.rankers.trained import TrainedRanker
from kaggle_rag.runtime.errors import run_program
from training import __main__ as program
from training.rankers.settings import CausalRun, MultipleChoiceRun
from training.rankers.train import train_ranker


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("told")
    questions, contexts = files(folder, "train", rows(64, 0, words=WORDS[:6]))
    held, held_contexts = files(folder, "held", rows(40, 1, words=WORDS[:6]))
    settings = {
        "model": str(backbone("bert", folder / "bert")), "questions": questions, "contexts_file": contexts,
        "held_out": 0.0, "max_tokens": 48, "batch": 16, "device": "cpu", "learning_rate": 1e-3,
        "data_map": True,
    }  # fmt: skip
    return {"settings": settings, "held": held, "contexts": held_contexts}


@pytest.fixture(scope="module")
def rankers(told, tmp_path_factory):
    """Three of the same beginning: two that learnt for long, one that was led astray."""
    folder, made = tmp_path_factory.mktemp("rankers"), []
    for seed, changes in enumerate(({"epochs": 6}, {"epochs": 5}, {"epochs": 4, "learning_rate": 0.05})):
        out = folder / f"seed-{seed}"
        train_ranker(
            "multiple-choice", MultipleChoiceRun(**{**told["settings"], "out": out, "seed": seed, **changes})
        )
        made.append(out)
    return made


def soup(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["training", "soup", *map(str, words)])
    return run_program(program.main)


def log_loss(folder, told):
    questions = Questions.read(told["held"])
    with TrainedRanker(str(folder), device="cpu") as ranker:
        found = ranker.probabilities(questions, read_contexts(told["contexts"], questions))
    return -np.log([row[answer] for row, answer in zip(found, questions.answers)]).mean()


def test_the_uniform_soup_is_the_mean_of_every_weight(rankers, told, tmp_path, monkeypatch, capsys):
    words = ["--questions", told["held"], "--device", "cpu"]
    assert soup(monkeypatch, *rankers, "--out", tmp_path / "soup", *words) == 0
    said = capsys.readouterr().err
    # What one of the trainings said of its questions is not the soup's.
    assert (rankers[0] / FILE).exists() and not (tmp_path / "soup" / FILE).exists()
    assert said.count("has no effect with --how uniform") == 2 and "--questions" in said
    tables = [load_file(folder / "model.safetensors") for folder in rankers]
    made = load_file(tmp_path / "soup" / "model.safetensors")
    assert made.keys() == tables[0].keys()
    for name, value in made.items():
        np.testing.assert_allclose(value, np.mean([table[name] for table in tables], axis=0), atol=1e-6)
    assert RankerCard.read(tmp_path / "soup") == RankerCard.read(rankers[0])
    assert np.isfinite(log_loss(tmp_path / "soup", told))
    assert not (tmp_path / "soup" / "training.json").exists()


def test_slerp_goes_half_the_arc(rankers, tmp_path, monkeypatch):
    assert soup(monkeypatch, *rankers[:2], "--how", "slerp", "--out", tmp_path / "soup") == 0
    one, other = (load_file(folder / "model.safetensors") for folder in rankers[:2])
    checked = 0
    for name, value in load_file(tmp_path / "soup" / "model.safetensors").items():
        a, b = one[name].ravel().astype(np.float64), other[name].ravel().astype(np.float64)
        if not np.linalg.norm(a) or not np.linalg.norm(b):
            continue
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        # Along a line there is no arc, and opposite vectors have many.
        half = np.arccos(cosine) / 2 if abs(cosine) < 1 - 1e-5 else 0
        # sin(x) / sin(2 x) is 1 / (2 cos(x)).
        np.testing.assert_allclose(value.ravel(), (a + b) / (2 * np.cos(half)), atol=2e-5)
        checked += half > 0.01
    assert checked > 5


def test_the_greedy_soup_takes_what_does_not_raise_the_log_loss(rankers, told, tmp_path, monkeypatch, capsys):
    words = ["--how", "greedy", "--questions", told["held"], "--contexts-file", told["contexts"]]
    assert soup(monkeypatch, *rankers, *words, "--out", tmp_path / "soup", "--device", "cpu") == 0
    said = capsys.readouterr().out
    # The same choice, by soups that were made one by one.
    order = sorted(rankers, key=lambda folder: log_loss(folder, told))
    kept, least = order[:1], log_loss(order[0], told)
    for number, folder in enumerate(order[1:]):
        trial = tmp_path / f"trial-{number}"
        assert soup(monkeypatch, *kept, folder, "--out", trial) == 0
        if (loss := log_loss(trial, told)) <= least:
            kept, least = [*kept, folder], loss
    assert str(rankers[2]) not in map(str, kept), "the one that was led astray spoils nothing here"
    assert said.endswith(f"of {', '.join(map(str, kept))}, log loss {least:.4f}\n")
    assert log_loss(tmp_path / "soup", told) == pytest.approx(least, abs=1e-6)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_adapters_are_averaged_too(told, tmp_path, monkeypatch):
    model = str(backbone("llama", tmp_path / "llama"))
    made = []
    for seed in range(2):
        changes = {"model": model, "form": "letters", "epochs": 1, "seed": seed, "out": tmp_path / f"s{seed}"}
        train_ranker("causal", CausalRun(**{**told["settings"], **changes}))
        made.append(tmp_path / f"s{seed}")
    assert soup(monkeypatch, *made, "--out", tmp_path / "soup") == 0
    made.append(tmp_path / "soup")
    tables = [load_file(folder / "adapter_model.safetensors") for folder in made]
    configs = [json.loads((folder / "adapter_config.json").read_text()) for folder in made]
    scales = [config["lora_alpha"] / config["r"] for config in configs]
    checked = 0
    for name, value in tables[2].items():
        if ".lora_A" in name:
            # Two seeds began at other factors: what they stand for is averaged, not they.
            other = name.replace(".lora_A", ".lora_B")
            *one, both = (scale * table[other] @ table[name] for scale, table in zip(scales, tables))
            np.testing.assert_allclose(both, sum(one) / 2, atol=1e-6)
            checked += np.abs(both).max() > 0
        elif ".lora_B" not in name:
            np.testing.assert_allclose(value, (tables[0][name] + tables[1][name]) / 2, atol=1e-6)
    assert checked and np.isfinite(log_loss(tmp_path / "soup", told))


@pytest.mark.parametrize(
    ("which", "words", "said"),
    [([0], [], "two or more"), ([0, 0], [], "two or more"), ([0, "link"], [], "two or more"),
     ([0, 1, 2], ["--how", "slerp"], "not through 3"),
     ([0, 1], ["--how", "greedy"], "needs questions"), ([0, "none"], [], "no trained ranker"),
     ([0, "wide"], [], "missing"), ([0, "form"], [], "max_tokens"), ([0, "cut"], [], "cannot be read")],
    ids=["one", "twice", "twice by another name", "slerp of three", "no judge", "no ranker", "other tensors",
         "another card", "damaged list of questions"],
)  # fmt: skip
def test_what_does_not_fit_is_refused(rankers, told, tmp_path, monkeypatch, capsys, which, words, said):
    if "wide" in which:
        shutil.copytree(rankers[0], tmp_path / "wide")
        card = RankerCard.read(tmp_path / "wide")
        table = load_file(tmp_path / "wide" / "model.safetensors")
        table.pop(sorted(table)[0])
        save_file(table, tmp_path / "wide" / "model.safetensors", {"format": "pt"})
        card.write(tmp_path / "wide")
    if "link" in which:
        (tmp_path / "link").symlink_to(rankers[0])
    if "form" in which:
        settings = {**told["settings"], "out": tmp_path / "form", "epochs": 1, "max_tokens": 40}
        train_ranker("multiple-choice", MultipleChoiceRun(**settings))
    if "cut" in which:
        shutil.copytree(rankers[0], tmp_path / "cut")
        (tmp_path / "cut" / "learnt.json").write_text("{")
    folders = [rankers[each] if isinstance(each, int) else tmp_path / each for each in which]
    assert soup(monkeypatch, *folders, *words, "--out", tmp_path / "new/soup") == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not [path for path in tmp_path.iterdir() if path.name == "new"]


def test_a_soup_is_not_written_into_what_it_is_made_of(rankers, monkeypatch, capsys):
    assert soup(monkeypatch, *rankers[:2], "--out", rankers[1] / "soup") == 2
    assert "OUT lies inside a ranker" in capsys.readouterr().err and not (rankers[1] / "soup").exists()


def test_what_is_there_is_not_overwritten(rankers, tmp_path, monkeypatch, capsys):
    (tmp_path / "soup").mkdir()
    assert soup(monkeypatch, *rankers[:2], "--out", tmp_path / "soup") == 2
    assert "OUT already exists" in capsys.readouterr().err and not any((tmp_path / "soup").iterdir())
