"""Two processes by ``accelerate launch`` learn what one with the double batch learns; programs stay quiet."""

import os
import subprocess
import sys

import psutil
import pytest
import torch
from conftest import ROOT
from ranker_toys import WORDS, backbone, task
from safetensors.torch import load_file

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
    return {**task(folder, count=64, judged=20, words=WORDS[:6]), "model": backbone("bert", folder / "bert")}


def flags(told, **changes):
    settings = {**told, "learning_rate": 1e-3, "epochs": 2, **changes}
    return [word for key, value in settings.items() for word in ("--" + key.replace("_", "-"), str(value))]


def run(*command):
    # Processes that wait for each other for ever are a failure, not a hang.
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT, env=QUIET, timeout=900
    )


# The second process comes late to the best weights, as it may on a busy machine.
LATE = """
import os, runpy, sys, time
import kaggle_rag.models.answering.bi_encoder
from training.loop.trainer import TrainerMixin
# A process asks the encoder as often as its texts need, the other one less often.
kaggle_rag.models.answering.bi_encoder._TEXTS = 4
load = TrainerMixin._load_best_model
if os.environ["RANK"] == "1":
    TrainerMixin._load_best_model = lambda self: (time.sleep(2), load(self))
sys.argv = ["training", *sys.argv[1:]]
runpy.run_module("training", run_name="__main__")
"""


@pytest.mark.skipif(
    not LOOPBACK,
    reason="the two processes talk over the loopback interface, which is down here: ip link set lo up",
)
@pytest.mark.parametrize("form", ["choice", "bi-encoder"])
def test_two_processes_are_one_with_the_double_batch(form, told, tmp_path):
    """Sockets of the machine's own are opened by the two processes, not by the tests."""
    launch = ["accelerate.commands.launch", "--config_file", "training/accelerate/ddp.yaml",
              "--main_process_port", "0"]  # fmt: skip
    (script := tmp_path / "late.py").write_text(LATE, encoding="utf-8")
    two = run(
        *launch,
        str(script),
        "multiple-choice",
        *flags(told, form=form, batch=8, out=tmp_path / "two", ema=0.5),
    )
    assert two.returncode == 0, two.stderr
    one = run("training", "multiple-choice", *flags(told, form=form, batch=16, out=tmp_path / "one", ema=0.5))
    assert one.returncode == 0, one.stderr
    left, right = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for key in left:
        # A softmax takes no notice of these: their gradients are rounding, which AdamW makes large.
        if not key.endswith(("classifier.bias", "key.bias")):
            torch.testing.assert_close(left[key], right[key], atol=2e-4, rtol=1e-3, msg=key)
    # Only one of them speaks.
    assert two.stdout.count("after") == two.stderr.count("before: map@3") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", script.name}


@pytest.mark.parametrize("method", ["full", "qlora"])
def test_nothing_of_the_libraries_reaches_the_user_or_the_folder(method, told, tmp_path):
    model = backbone("llama", tmp_path / "llama")
    command = flags({**told, "model": model}, epochs=1, out=tmp_path / "out", precision="fp32")
    done = run("training", "causal", *command, "--set", f"peft.method={method}")
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
    assert table[0].split() == ["map@3", "accuracy", "log", "loss"]
    assert table[1].startswith("before") and table[2].startswith("after")


def test_curves_for_tensorboard_lie_beside_the_ranker(told, tmp_path):
    done = run("training", "multiple-choice", *flags(told, out=tmp_path / "out", report_to="tensorboard"))
    assert done.returncode == 0, done.stderr
    (events,) = (tmp_path / "out.curves").iterdir()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(events)).Reload()
    assert len(found.Scalars("eval/map@3")) == 2 and found.Scalars("train/loss")


def test_a_logger_that_is_not_installed_is_one_message(told, tmp_path):
    done = run("training", "multiple-choice", *flags(told, out=tmp_path / "out", report_to="wandb"))
    assert done.returncode == 2 and "not installed: wandb" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out.training").exists()
