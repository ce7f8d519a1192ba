"""A rehearsal is refused with one message where it cannot be held, and a dry run holds none."""

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys

import pytest
from rehearsal_toys import SOUND, bundle_of, call, questions_file, wheel_of

from inference.notebook.rehearsal import machine
from inference.notebook.rehearsal.cases import CASES
from inference.notebook.rehearsal.environment import HERE, this_environment, wheels_environment
from inference.notebook.rehearsal.machine import Means
from inference.notebook.rehearsal.opened import opened
from inference.notebook.rehearsal.rehearse import Wanted, _image_of, rehearse
from kaggle_rag.runtime.errors import ConfigError

NONE = Means(namespaces=False, own_tmp=False, control_group=False)


@pytest.fixture
def questions(tmp_path):
    return questions_file(tmp_path / "test.csv")


@pytest.fixture
def sound(tmp_path):
    return bundle_of(tmp_path / "bundle", *SOUND)


def fails(monkeypatch, capsys, folder, *arguments):
    """The message of a rehearsal that is refused and leaves nothing behind."""
    before = sorted(folder.rglob("*"))
    assert call(monkeypatch, "rehearse", *arguments) == 2
    assert sorted(folder.rglob("*")) == before
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("error:") == 1 and "Traceback" not in said.err
    return said.err


def test_a_dry_run_lists_the_cases_and_what_is_enforced(sound, questions, tmp_path, monkeypatch, capsys):
    flags = ["rehearse", sound, "--questions", questions, "--dry-run"]
    before = sorted(tmp_path.rglob("*"))
    assert call(monkeypatch, *flags, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["planned"] == [
        {"case": "x1", "questions": 30}, {"case": "odd", "questions": 38}, {"case": "x5", "questions": 150},
        {"case": "x20", "questions": 600},
    ]  # fmt: skip
    assert told["cases"] == [] and told["passed"]
    assert set(told["enforced"]) == {
        "inputs",
        "network",
        "RAM",
        "/tmp",
        "/kaggle/working",
        "cores",
        "GPU memory",
    }
    assert call(monkeypatch, *flags, "--quick", "--ram", "4GB") == 0
    said = capsys.readouterr().out
    assert "odd" in said and "x20" not in said and "RAM: 4.00 GB" in said and "nothing was run" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_that_the_notebook_does_not_look_for_is_told(sound, questions, tmp_path, monkeypatch, capsys):
    other = questions.rename(tmp_path / "questions.csv")
    assert call(monkeypatch, "rehearse", sound, "--questions", other, "--dry-run") == 0
    assert "note: questions.csv stands there as test.csv" in capsys.readouterr().out


def test_the_image_is_found_in_whichever_dataset_it_lies(tmp_path):
    folder = bundle_of(tmp_path / "bundle", *SOUND, python="3.13")
    bundle = dataclasses.replace(opened(folder), more=(tmp_path / "bundle-2",))
    assert _image_of(Wanted(folder, None), bundle) is None
    (tmp_path / "bundle-2").mkdir()
    (tmp_path / "bundle-2" / "image.txt").write_text("# Python 3.13\nnumpy==2.0.2\n")
    assert _image_of(Wanted(folder, None), bundle).python == "3.13"


def test_what_is_enforced_is_told_as_it_is():
    lines = NONE.lines(10**9, 10**8, 10**9, 10**9)
    assert "compared afterwards" in lines["inputs"] and "Python's sockets" in lines["network"]
    assert "no GPU" in lines["GPU memory"]
    all_of_it = Means(namespaces=True, own_tmp=True, control_group=True, gpu=2 * 10**10, gpu_capped=True)
    lines = all_of_it.lines(10**9, 10**8, 10**9, 15 * 10**9)
    assert "read-only" in lines["inputs"] and "namespace" in lines["network"]
    assert "control group" in lines["RAM"] and lines["GPU memory"] == "15.00 GB, by torch's allocator"


def test_memory_with_gpus_is_what_their_machine_has(tmp_path, questions):
    for gpu, ram in ((True, "29.00 GB"), (False, "30.00 GB")):
        folder = bundle_of(
            tmp_path / str(gpu), *SOUND, kernel={"enable_gpu": gpu, "machine_shape": "NvidiaTeslaT4"}
        )
        report = rehearse(Wanted(folder, questions, dry_run=True), NONE)
        assert report.enforced["RAM"].startswith(ram)


def test_a_folder_that_is_no_bundle(questions, tmp_path, monkeypatch, capsys):
    for name in ("gone", "empty"):
        if name == "empty":
            (tmp_path / name).mkdir()
        said = fails(monkeypatch, capsys, tmp_path, tmp_path / name, "--questions", questions)
        assert "no such f" in said and "python -m inference bundle" in said


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("bundle.json", "{", "not JSON"),
        ("bundle.json", "[]", "not a JSON object"),
        ("bundle.json", '{"id": "x", "files": {}}', "this is no bundle"),
        ("notebook/kernel-metadata.json", '{"code_file": "other.ipynb"}', "other.ipynb: no such file"),
        ("notebook/science-exam.ipynb", "{}", "this is no notebook"),
    ],
)
def test_a_damaged_bundle(sound, questions, tmp_path, monkeypatch, capsys, name, text, said):
    (sound / name).write_text(text)
    assert said in fails(monkeypatch, capsys, tmp_path, sound, "--questions", questions)


def test_everything_that_is_wrong_is_said_at_once(sound, tmp_path, monkeypatch, capsys):
    """No test file, a freeze that is none, no such case, a folder in use."""
    (tmp_path / "freeze.txt").write_text("Package Version\n")
    flags = ["--image", tmp_path / "freeze.txt", "--cases", "x1,x2", "--keep", sound]
    said = fails(monkeypatch, capsys, tmp_path, sound, *flags)
    for part in (
        "4 things must be fixed", "a bundle holds no test file", "--questions test.csv",
        "not a line of a freeze", "no case 'x2'", "something is there already",
    ):  # fmt: skip
        assert part in said


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--questions", "gone.csv"], "no such file"),
        (["--questions", "test.csv", "--image", "gone.txt"], "no such file"),
        (["--questions", "test.csv", "--environment", "image"], "the image is not known"),
        (["--questions", "test.csv", "--environment", "wheels"], "the bundle has no wheels"),
        (["--questions", "test.csv", "--ram", "much"], "cannot read the size 'much'"),
        (["--questions", "test.csv", "--limit", "long"], "cannot read the duration 'long'"),
        (["--questions", "test.csv", "--limit", "0"], "more than 0"),
        (["--questions", "test.csv", "--ram", "0"], "more than 0"),
        (["--questions", "test.csv", "--cases", ""], "no case ''"),
        (["--questions", "test.csv", "--cases", "x1", "--quick"], "contradict each other"),
        (["--questions", "test.csv", "--environment", "image", "--dry-run"], "the image is not known"),
    ],
)
def test_other_mistakes(sound, questions, tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.chdir(tmp_path)
    assert said in fails(monkeypatch, capsys, tmp_path, sound, *flags)


def test_a_full_disk_is_told_before(sound, questions, tmp_path, monkeypatch, capsys):
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    said = fails(monkeypatch, capsys, tmp_path, sound, "--questions", questions)
    assert "of disk, but only 1.0 MB is free" in said


def test_without_the_packages_that_run_notebooks_the_extra_is_named(
    sound, questions, tmp_path, monkeypatch, capsys
):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "nbclient" else find(name))
    said = fails(monkeypatch, capsys, tmp_path, sound, "--questions", questions)
    assert "pip install nbclient" in said and "the extra: rehearsal" in said
    # The cases can be listed without them.
    assert call(monkeypatch, "rehearse", sound, "--questions", questions, "--dry-run") == 0


def test_a_notebook_that_finds_its_inputs_only_where_they_cannot_be_mounted(tmp_path, questions):
    folder = bundle_of(tmp_path / "b", "open('/kaggle/input/' + name)")
    with pytest.raises(ConfigError, match="cannot mount /kaggle/input"):
        rehearse(Wanted(folder, questions), NONE)


def test_wheels_for_another_python_need_something_to_stand_in(tmp_path):
    other = "3.13" if HERE != "3.13" else "3.12"
    folder = bundle_of(tmp_path / "b", *SOUND, wheels=["first==1"], python=other)
    tag = "cp" + other.replace(".", "")
    wheel_of(folder / "wheels", "first", "1", tag=f"{tag}-{tag}-manylinux2014_x86_64")
    with pytest.raises(ConfigError, match="first is not installed here to stand in"):
        this_environment(opened(folder), tmp_path / "scratch")
    with pytest.raises(ConfigError, match=f"the wheels are for Python {other}, and this is {HERE}"):
        wheels_environment(opened(folder), tmp_path / "scratch")


def test_the_kernel_s_own_packages_are_enough_to_start_it(tmp_path):
    """As an environment of wheels alone has them: nothing else of this one's packages."""
    pytest.importorskip("ipykernel")
    folder = bundle_of(tmp_path / "b", *SOUND, wheels=["first==1"], python=HERE)
    made = wheels_environment(opened(folder), tmp_path / "scratch")
    assert made.packages == () and not (made.of_kernel[0] / "torch").exists()
    code = f"import sys; sys.path += [{str(made.of_kernel[0])!r}]; import ipykernel.kernelapp, zmq"
    # -S: without this environment's own packages.
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_systemd_is_asked_for_a_scope_with_that_memory(monkeypatch, tmp_path):
    """A stand-in for systemd-run that checks its flags, for this machine may run without systemd."""
    script = tmp_path / "systemd-run"
    script.write_text(
        '#!/bin/sh\nwhile [ "$1" != -- ]; do echo "$1" >> "$0.said"; shift; done\nshift\nexec "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert machine.means(10**6).control_group
    said = (tmp_path / "systemd-run.said").read_text().split()
    assert {"--scope", "--quiet", "-p", "MemoryMax=1000000000", "MemorySwapMax=0"} <= {*said}
    script.write_text("#!/bin/sh\nexit 1\n")
    assert not machine.means(10**6).control_group


def test_the_flags_know_every_case_and_help_is_quick():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "inference", "rehearse", "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and all(name in done.stdout for name in CASES)
    assert not [name for name in ("numpy", "nbclient", "torch") if f" {name}\n" in done.stderr]
