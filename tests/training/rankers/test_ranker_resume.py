"""One seed, one set of weights; killed and resumed, the same; memory that runs out; a loss that is lost."""

import json
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from interrupts import stop_at
from killed import kill_training
from ranker_toys import COMMANDS, FORMS, WORDS, backbone, task
from safetensors.torch import load_file
from transformers import BertForMultipleChoice

import training.rankers.train
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, LimitError
from training.__main__ import main
from training.loop.run_folder import Run
from training.loop.trainer import Progress
from training.rankers.settings import RankerRun
from training.rankers.train import _smaller, train_ranker

ALL = {
    "learning_rate": 2e-3, "epochs": 3, "evaluations": 2, "ema": 0.9, "accumulate": 2, "batch": 8,
    "adversarial": "awp", "adversarial_size": 0.01, "adversarial_from": 0.2, "layer_decay": 0.9,
    "label_smoothing": 0.05, "drop_snippets": 0.2,
}  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    models = {kind: str(backbone(kind, folder / kind)) for kind in ("bert", "t5", "llama")}
    return {"told": task(folder, count=96, judged=20, words=WORDS[:6]), "models": models}


def train(told, out, kind="bert", **changes):
    settings = {
        **told["told"],
        **ALL,
        "out": out,
        "model": told["models"][kind],
        "form": FORMS[kind],
        **changes,
    }
    return train_ranker(COMMANDS[kind], RankerRun(**settings))


KINDS = {
    "bert": {},
    # Dropout, whose generator must go on where it was.
    "t5": {"form": "options"},
    "lora": {"kind": "llama", "peft": {"method": "lora"}},
    "adapters": {"kind": "llama", "peft": {"method": "adapters"}},
}


@pytest.fixture(scope="module")
def whole(told, tmp_path_factory):
    """Undisturbed runs, made when they are asked for."""
    made = {}

    def run(name):
        if name not in made:
            out = tmp_path_factory.mktemp("whole") / name
            made[name] = (out, train(told, out, **{"kind": name.split("-")[0], **KINDS[name]}))
        return made[name]

    return run


def interrupted(told, out, monkeypatch, step, **changes):
    """Run until a step, then stop as Ctrl-C does."""
    monkeypatch.setattr(Progress, "on_step_end", stop_at(step))
    with pytest.raises(KeyboardInterrupt):
        train(told, out, **changes)
    monkeypatch.undo()


def same(left, right):
    """Both folders hold the same weights, bit for bit."""
    names = sorted(path.name for path in left.glob("*.safetensors"))
    assert names and names == sorted(path.name for path in right.glob("*.safetensors"))
    for name in names:
        one, other = load_file(left / name), load_file(right / name)
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name, step", [("bert", 5), ("bert", 14), ("t5", 8), ("lora", 8), ("adapters", 8)])
def test_a_killed_run_goes_on_and_ends_with_the_same_weights(name, step, whole, told, tmp_path, monkeypatch):
    changes = {"kind": name, **KINDS[name]}
    interrupted(told, tmp_path / "out", monkeypatch, step, **changes)
    work = tmp_path / "out.training"
    assert list(work.glob("checkpoint-*")) and not list(work.rglob("training_args.bin"))
    assert not list(work.rglob("README.md"))
    lines = []
    monkeypatch.setattr(training.rankers.train, "say", lines.append)
    record = train(told, tmp_path / "out", **changes)
    assert any(line.startswith("resuming from checkpoint-") for line in lines)
    out, undisturbed = whole(name)
    same(out, tmp_path / "out")
    for key in ("before", "after", "best step", "steps"):
        assert record["result"][key] == undisturbed["result"][key]
    assert not work.exists()


def test_a_run_killed_by_the_system_goes_on(told, whole, tmp_path, monkeypatch, capsys):
    settings = {**told["told"], **ALL, "out": tmp_path / "out", "model": told["models"]["bert"]}
    words = [w for key, value in settings.items() for w in ("--" + key.replace("_", "-"), str(value))]
    assert kill_training(8, "multiple-choice", *words) == -signal.SIGKILL
    monkeypatch.setattr(sys, "argv", ["training", "multiple-choice", *words])
    assert main() == 0
    said = capsys.readouterr()
    assert "resuming from checkpoint-" in said.err
    assert "step 3:" not in said.err and "step 9:" in said.err and "in solution.yaml" in said.out
    same(whole("bert")[0], tmp_path / "out")


def test_another_seed_gives_other_weights_and_the_same_one_the_same(told, whole, tmp_path):
    out = whole("bert")[0]
    train(told, tmp_path / "again")
    same(out, tmp_path / "again")
    train(told, tmp_path / "other", seed=1)
    one, other = (load_file(folder / "model.safetensors") for folder in (out, tmp_path / "other"))
    assert any(not torch.equal(one[key], other[key]) for key in one)


def limited(monkeypatch, questions):
    """Memory for so many questions at once, in the backbone's own forward pass."""
    forward = BertForMultipleChoice.forward

    def cramped(self, input_ids=None, **kwargs):
        if torch.is_grad_enabled() and len(input_ids) > questions:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(BertForMultipleChoice, "forward", cramped)


def test_out_of_memory_halves_the_batch_and_goes_on(told, tmp_path, monkeypatch, capsys):
    plain = train(told, tmp_path / "small", batch=4, accumulate=4, adversarial="none", ema=0)
    limited(monkeypatch, 4)
    result = train(told, tmp_path / "out", batch=16, accumulate=1, adversarial="none", ema=0)["result"]
    said = capsys.readouterr().err
    assert "out of memory: continuing with batch 8, accumulate 2" in said
    assert "out of memory: continuing with batch 4, accumulate 4" in said
    assert (result["batch"], result["accumulate"]) == (4, 4)
    # Nothing was learnt before memory ran out, so the weights are those of a run that began so.
    same(tmp_path / "small", tmp_path / "out")
    assert result["after"] == plain["result"]["after"]


def test_memory_that_runs_out_behind_a_checkpoint_halves_the_batch_too(told, tmp_path, monkeypatch, capsys):
    """The checkpoint names the batch that it was made with, which the library takes up in some versions."""
    forward, sizes = BertForMultipleChoice.forward, []

    def shrinking(self, input_ids=None, **kwargs):
        if torch.is_grad_enabled():
            sizes.append(len(input_ids))
            if len(input_ids) > 8 and sizes.count(16) > 5:
                raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(BertForMultipleChoice, "forward", shrinking)
    result = train(told, tmp_path / "out", batch=16, accumulate=1, adversarial="none", ema=0)["result"]
    said = capsys.readouterr().err
    assert "out of memory: continuing with batch 8, accumulate 2" in said and "resuming from" in said
    assert (result["batch"], result["accumulate"]) == (8, 2)
    left = sizes[sizes.index(8):]
    assert max(left) == 8 and sizes[: sizes.index(8)].count(16) == 6


def test_where_not_one_question_fits_there_is_one_message(told, tmp_path, monkeypatch):
    limited(monkeypatch, 0)
    with pytest.raises(ConfigError, match="a batch of 1 does not fit in memory") as caught:
        train(told, tmp_path / "out", batch=4)
    assert "lower max_tokens" in str(caught.value)


def test_a_lost_loss_stops_the_run_and_keeps_the_last_good_checkpoint(told, tmp_path, monkeypatch):
    forward, calls = BertForMultipleChoice.forward, []

    def lost(self, **kwargs):
        found = forward(self, **kwargs)
        if torch.is_grad_enabled():
            calls.append(1)
            found.logits = found.logits * (float("nan") if len(calls) == 19 else 1.0)
        return found

    monkeypatch.setattr(BertForMultipleChoice, "forward", lost)
    with pytest.raises(ConfigError, match=r"loss is nan at step 10[^$]*checkpoint-9"):
        train(told, tmp_path / "out", adversarial="none")
    kept = load_file(tmp_path / "out.training/checkpoint-9/model.safetensors")
    assert all(torch.isfinite(weight).all() for weight in kept.values())


def test_folders_of_other_runs_are_left_alone(told, whole, tmp_path, monkeypatch):
    out, record = whole("bert")
    assert train(told, out)["result"] == record["result"]
    with pytest.raises(ArtifactError, match="which differs in epochs"):
        train(told, out, epochs=5)
    interrupted(told, tmp_path / "out", monkeypatch, 5)
    with pytest.raises(ArtifactError, match="unfinished training run already exists, and differs in peft"):
        train(told, tmp_path / "out", peft={"method": "lora"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="something else"):
        train(told, tmp_path / "mine")


def test_a_run_that_failed_before_it_learnt_leaves_nothing_in_the_way(told, tmp_path):
    with pytest.raises(ConfigError, match="rank: LoraConfig has no such setting"):
        train(told, tmp_path / "out", peft={"method": "lora", "options": {"rank": 4}})
    assert train(told, tmp_path / "out", epochs=0.5, peft={"method": "lora"})["result"]["steps"] == 3


def test_a_run_that_chose_its_checkpoint_by_another_metric_is_not_resumed(told, tmp_path, monkeypatch):
    """As an earlier version did, by MAP@3: a loss is never less than that."""
    changes = {"epochs": 2, "evaluations": 4}
    interrupted(told, tmp_path / "out", monkeypatch, 8, **changes)
    for state in (tmp_path / "out.training").glob("checkpoint-*/trainer_state.json"):
        state.write_text(state.read_text().replace("eval_calibrated loss", "eval_mrr"))
    with pytest.raises(ArtifactError, match="begun by an earlier version") as caught:
        train(told, tmp_path / "out", **changes)
    assert "calibrated loss" in str(caught.value) and not (tmp_path / "out").exists()


def test_training_stops_when_nothing_is_gained(told, tmp_path):
    result = train(told, tmp_path / "out", epochs=100, patience=2, learning_rate=1e-9)["result"]
    assert result["steps"] < 20 and result["best step"] <= 3


def test_patience_and_the_best_checkpoint_outlive_a_kill_and_a_move(told, tmp_path, monkeypatch):
    changes = {"epochs": 100, "patience": 3, "ema": 0}
    plain = train(told, tmp_path / "plain", **changes)["result"]
    assert plain["best step"] < plain["steps"] < 600
    interrupted(told, tmp_path / "early", monkeypatch, plain["steps"] - 4, **changes)
    assert train(told, tmp_path / "early", **changes)["result"]["steps"] == plain["steps"]
    same(tmp_path / "plain", tmp_path / "early")
    # Killed when all was learnt, and found in another place.
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Run, "finish", _killed)
        train(told, tmp_path / "late", **changes)
    (tmp_path / "late.training").rename(tmp_path / "moved.training")
    found = train(told, tmp_path / "moved", **changes)["result"]
    assert {k: found[k] for k in ("after", "steps", "best step")} == {
        k: plain[k] for k in ("after", "steps", "best step")
    }
    same(tmp_path / "plain", tmp_path / "moved")


def _killed(*args):
    raise KeyboardInterrupt


def test_smaller_batches_keep_the_questions_of_a_step():
    assert [_smaller(*each) for each in ((16, 1), (5, 1), (6, 2), (2, 3))] == [
        {"batch": 8, "accumulate": 2}, {"batch": 1, "accumulate": 5},
        {"batch": 3, "accumulate": 4}, {"batch": 1, "accumulate": 6},
    ]  # fmt: skip


def test_a_disk_without_room_for_checkpoints_is_told_by_what_is_trained(told, tmp_path, monkeypatch):
    llama = {"kind": "llama", "epochs": 0.5}
    whole = sum(path.stat().st_size for path in Path(told["models"]["llama"]).glob("*.safetensors"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=8 * whole))
    with pytest.raises(LimitError, match="of disk"):
        train(told, tmp_path / "full", peft={"method": "full"}, **llama)
    assert train(told, tmp_path / "lora", peft={"method": "lora", "options": {"r": 2}}, **llama)


def test_a_dry_run_counts_and_writes_nothing(told, tmp_path, monkeypatch, capsys):
    settings = {**told["told"], "out": tmp_path / "out", "model": told["models"]["bert"], "epochs": 2}
    command = [w for key, value in settings.items() for w in ("--" + key.replace("_", "-"), str(value))]
    monkeypatch.setattr(sys, "argv", ["training", "multiple-choice", *command, "--dry-run", "--json"])
    assert main() == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 12 and found["notes"]["questions to learn from"] == 96
    assert re.fullmatch(r"\d[\d.]* [MG]B RAM", found["memory"])
    assert not list(tmp_path.iterdir())


def test_the_last_step_is_evaluated_too(told, tmp_path, capsys):
    """Ten steps, looked at every third."""
    changes = {"batch": 16, "accumulate": 1, "epochs": 5 / 3, "ema": 0}
    result = train(told, tmp_path / "out", **changes)["result"]
    seen = [int(step) for step in re.findall(r"^step (\d+): ", capsys.readouterr().err, re.MULTILINE)]
    assert seen[-1] == result["steps"] and result["steps"] % seen[0]
