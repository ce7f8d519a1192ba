"""Two processes by ``accelerate launch`` learn what one with the double batch learns; programs stay quiet."""

import json
import os
import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch
from conftest import ROOT
from ranker_toys import WORDS, backbone, task
from safetensors.torch import load_file

from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.data_maps import FILE, read_data_map
from training.rankers.settings import MultipleChoiceRun
from training.rankers.train import train_ranker

LOOPBACK = [
    name for name, stats in psutil.net_if_stats().items() if name.startswith("lo") and stats.isup
]  # fmt: skip
QUIET = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "GLOO_SOCKET_IFNAME": "".join(LOOPBACK[:1]),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    model = str(backbone("bert", folder / "bert"))
    return {**task(folder, count=64, judged=20, words=WORDS[:6]), "model": model}


def flags(told, **changes):
    settings = {**told, "learning_rate": 1e-3, "epochs": 2, **changes}
    return [word for key, value in settings.items() for word in ("--" + key.replace("_", "-"), str(value))]


def run(*command):
    # Processes that wait for each other for ever are a failure, not a hang.
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT, env=QUIET, timeout=900
    )


# Trainings one after the other. The second process comes late to the best weights, as it may on a busy
# machine, and a process asks the encoder as often as its texts need, the other one less often.
LATE = """
import json, os, runpy, sys, time
import kaggle_rag.models.answering.bi_encoder
from training.loop.trainer import TrainerMixin
kaggle_rag.models.answering.bi_encoder._TEXTS = 4
load = TrainerMixin._load_best_model
if os.environ["RANK"] == "1":
    TrainerMixin._load_best_model = lambda self: (time.sleep(2), load(self))
for words in json.loads(sys.argv[1]):
    sys.argv = ["training", "multiple-choice", *words]
    try:
        runpy.run_module("training", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
"""
PAIRED = ("choice", "bi-encoder")


@pytest.fixture(scope="module")
def two(told, tmp_path_factory):
    """What two processes say and write; sockets of the machine's own are opened by them, not by the tests."""
    folder = tmp_path_factory.mktemp("two")
    (script := folder / "late.py").write_text(LATE, encoding="utf-8")
    words = [flags(told, form=form, batch=8, out=folder / form, ema=0.5, data_map=True) for form in PAIRED]
    launch = ["accelerate.commands.launch", "--config_file", "training/accelerate/ddp.yaml",
              "--main_process_port", "0"]  # fmt: skip
    done = run(*launch, str(script), json.dumps(words))
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.mark.skipif(
    not LOOPBACK,
    reason="the two processes talk over the loopback interface, which is down here: ip link set lo up",
)
@pytest.mark.parametrize("form", PAIRED)
def test_two_processes_are_one_with_the_double_batch(form, told, two, tmp_path):
    folder, _ = two
    settings = {
        **told,
        "learning_rate": 1e-3,
        "epochs": 2,
        "form": form,
        "batch": 16,
        "ema": 0.5,
        "data_map": True,
    }
    train_ranker("multiple-choice", MultipleChoiceRun(**settings, out=tmp_path / "one"))
    left, right = (load_file(path / "model.safetensors") for path in (tmp_path / "one", folder / form))
    for key in left:
        # A softmax takes no notice of these: their gradients are rounding, which AdamW makes large.
        if not key.endswith(("classifier.bias", "key.bias")):
            torch.testing.assert_close(left[key], right[key], atol=2e-4, rtol=1e-3, msg=key)
    questions = Questions.read(told["questions"])
    one, other = (read_data_map(path / FILE, questions) for path in (tmp_path / "one", folder / form))
    assert set(one.epochs) == {2}
    for alone, together in zip(one, other):
        np.testing.assert_allclose(alone, together, atol=1e-3)


@pytest.mark.skipif(not LOOPBACK, reason="the two processes talk over the loopback interface")
def test_only_one_of_two_processes_speaks_and_nothing_is_left_behind(two):
    folder, done = two
    assert done.stdout.count("after") == done.stderr.count("before: map@3") == len(PAIRED)
    assert {path.name for path in folder.iterdir()} == {*PAIRED, "late.py"}


def test_nothing_of_the_libraries_reaches_the_user_or_the_folder(told, tmp_path):
    """More libraries speak in a training of 4-bit weights than in any other."""
    model = backbone("llama", tmp_path / "llama")
    command = flags({**told, "model": model}, epochs=1, out=tmp_path / "out", precision="fp32")
    done = run("training", "causal", *command, "--set", "peft.method=qlora")
    assert done.returncode == 0, done.stderr
    copies, *lines = [line for line in done.stderr.splitlines() if not line.startswith("step ")]
    # Six words make few questions, so that the held-out ones are among the learnt ones.
    assert copies.startswith("note: 20 of 20 validation questions are near-duplicates")
    assert lines == [
        "64 questions to train on, 20 held out", "new, to be trained from scratch: score", lines[2]
    ]  # fmt: skip
    assert lines[2].startswith("before: map@3 ")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "README.md" not in names and not {n for n in names if n.endswith((".bin", ".pt", ".pth"))}
    table = done.stdout.splitlines()
    assert table[0].split() == ["map@3", "accuracy", "log", "loss", "calibrated", "loss"]
    assert table[1].startswith("before") and table[2].startswith("after")


def test_curves_for_tensorboard_lie_beside_the_ranker(told, tmp_path):
    train_ranker("multiple-choice", MultipleChoiceRun(**told, out=tmp_path / "out", report_to="tensorboard"))
    (events,) = (tmp_path / "out.curves").iterdir()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(events)).Reload()
    assert len(found.Scalars("eval/map@3")) == 3 and found.Scalars("train/loss")


def test_a_logger_that_is_not_installed_is_one_message(told, tmp_path):
    done = run("training", "multiple-choice", *flags(told, out=tmp_path / "out", report_to="wandb"))
    assert done.returncode == 2 and "not installed: wandb" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out.training").exists()
