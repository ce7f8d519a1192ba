"""Errors, artifacts, limits, configuration and checkpoints: what works without a model."""

import errno
import os
import signal
import socket
import subprocess
import sys

import pytest

from kaggle_rag import config
from kaggle_rag.models import checkpoints
from kaggle_rag.runtime import files as artifacts
from kaggle_rag.runtime import limits
from kaggle_rag.runtime.errors import (
    ArtifactError,
    CheckpointError,
    ConfigError,
    InputError,
    LimitError,
    run_program,
)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), artifacts.whole_file(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with artifacts.whole_file(path) as aside:
        aside.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage, said", [("flip", "checksum"), ("cut", "bytes"), ("lose", "missing")])
def test_damage_is_named(damage, said, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    sealed = artifacts.seal(tmp_path, ["file"])
    artifacts.verify(tmp_path, sealed)
    {"flip": lambda: path.write_bytes(bytes(99) + b"\1"), "cut": lambda: path.write_bytes(bytes(9)),
     "lose": path.unlink}[damage]()  # fmt: skip
    with pytest.raises(ArtifactError, match=said):
        artifacts.verify(tmp_path, sealed)


@pytest.mark.parametrize(
    "fault, code, said",
    [
        (InputError("wrong", where="q.csv", expected="right", cure="mend"), 2, "do this:  mend"),
        (OSError(errno.ENOSPC, "no space", "/disk"), 2, "the disk is full"),
        (FileNotFoundError(errno.ENOENT, "none", "x.csv"), 2, "x.csv: no such file"),
        (KeyboardInterrupt(), 130, "resume where they stopped"),
    ],
)
def test_what_the_user_can_mend_is_one_message(fault, code, said, capsys):
    def main():
        raise fault

    assert run_program(main) == code
    assert said in capsys.readouterr().err


def test_a_program_that_is_terminated_says_so_and_clears_up(tmp_path):
    code = (
        "import os, signal, sys\nfrom kaggle_rag.runtime.errors import run_program\n"
        "def main():\n    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n        signal.pause()\n"
        "    finally:\n        print('cleared up')\nsys.exit(run_program(main))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 143 and done.stdout == "cleared up\n"
    assert done.stderr.startswith("interrupted: only complete files") and "Traceback" not in done.stderr
    # Of several processes the launcher speaks.
    one = {**os.environ, "RANK": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=one)
    assert done.returncode == -signal.SIGTERM and not done.stderr


def test_a_fault_of_the_kit_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_program(lambda: 1 // 0)


def test_sizes_and_budgets():
    assert limits.parse_size("13GB") == 13e9 and limits.parse_size("800 mb") == 8e8
    need = limits.Need("index", ram=2_000, setting="raise --ram")
    limits.require(need, ram=2_000)
    with pytest.raises(LimitError, match="raise --ram"):
        limits.require(need, ram=1_999)
    with pytest.raises(ConfigError, match="13GB"):
        limits.parse_size("much")


STAGES = """
import numpy as np
from kaggle_rag.runtime.limits import measured
for count in (1, 50_000_000, 1):
    with measured("stage") as usage:
        np.ones(count).sum()  # 400 MB in the middle
    print(usage.ram_peak)
"""


def test_the_peak_of_a_stage_is_seen_and_the_next_stage_starts_low():
    # In a process of its own: here, mapped models of other tests come and go.
    told = subprocess.run([sys.executable, "-c", STAGES], capture_output=True, text=True, check=True)
    before, large, after = map(int, told.stdout.split())
    assert large - before > 250e6 and large - after > 250e6


def test_every_fault_of_a_configuration_is_reported_at_once(tmp_path):
    path = tmp_path / "solution.yaml"
    path.write_text("contexts: {tokns: 5, hits: 0}\nlimits: {ram: much}\nrankers: [{weigth: 1}]\n")
    with pytest.raises(ConfigError) as raised:
        config.load(path)
    message = str(raised.value)
    for said in ("4 settings", "did you mean 'tokens'", "contexts.hits", "limits.ram", "'weight'"):
        assert said in message


def test_changes_and_flags_override_the_file(tmp_path):
    path = tmp_path / "solution.yaml"
    path.write_text("index: there\ncontexts: {hits: 5}\nlimits: {ram: 1GB}\n")
    solution = config.load(path, ["contexts.per=option", "limits.ram=2GB"], {"index": "flag", "out": None})
    assert (solution.contexts.per, solution.contexts.hits) == ("option", 5)
    assert solution.limits.ram == 2e9 and str(solution.index) == "flag"
    assert config.load(path).index == tmp_path / "there"
    for change in ("contexts", "index.x=1", "contexts.hits=[1"):
        with pytest.raises(ConfigError):
            config.load(path, [change])


def model_folder(folder, weights=b"weights"):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    if weights:
        (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_a_name_resolves_offline_without_a_socket(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setenv(checkpoints.INPUTS_VARIABLE, str(tmp_path / "input"))
    attached = model_folder(tmp_path / "input/deberta-v3-small/transformers/default/1")
    assert checkpoints.resolve("microsoft/deberta-v3-small").path == attached
    local = model_folder(tmp_path / "local")
    assert checkpoints.resolve(str(local)).source == "folder"
    packaged = checkpoints.resolve("sentence-transformers/all-MiniLM-L6-v2")
    assert (packaged.source, packaged.sha256) == ("package", checkpoints.MINILM_SHA256)
    with pytest.raises(CheckpointError, match="hf download"):
        checkpoints.resolve("nobody/nothing")


def test_weights_that_are_not_safetensors_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="safetensors"):
        checkpoints.resolve(str(model_folder(tmp_path / "old", weights=b"")))


def test_the_library_and_help_import_without_torch():
    code = (
        "import sys, runpy, kaggle_rag.config, kaggle_rag.data.submission, kaggle_rag.data.questions\n"
        "for name in ('wiki_index', 'inference'):\n"
        "    sys.argv = [name, '--help']\n"
        "    try: runpy.run_module(name, run_name='__main__', alter_sys=True)\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'faiss', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "build" in done.stdout and "submit" in done.stdout
