"""Planted faults, each found by a run of the notebook: the right class, the cause, and a cure."""

import dataclasses
import json
import sys

import pytest
from rehearsal_toys import SOUND, bundle_of, call, questions_file, wheel_of

from inference.notebook.rehearsal.machine import Means, means
from inference.notebook.rehearsal.rehearse import Wanted, rehearse
from inference.notebook.rehearsal.verdict import ErrorClass

pytest.importorskip("nbclient")
pytestmark = pytest.mark.slow

COUNT = 30
THREW, COMPUTE, SCORING = ErrorClass.EXCEPTION, ErrorClass.COMPUTE, ErrorClass.SCORING
READ = SOUND[0]
INSTALL = """\
import subprocess, sys
wheels = next(INPUT.glob("**/wheels"))
flags = ["--no-index", "--no-deps", "--find-links", str(wheels)]
done = subprocess.run(
    [sys.executable, "-m", "pip", "install", *flags, "first==1"],
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
)
print(done.stdout)
done.check_returncode()
"""


def write(rows, name="submission.csv"):
    """A cell that writes a submission of these rows."""
    return f"""\
with open({name!r}, "w", newline="") as file:
    csv.writer(file).writerows([("id", "prediction"), *{rows}])
"""


ALL = '((row["id"], "A B") for row in rows)'


@pytest.fixture(scope="module")
def able():
    found = means(10**8)
    if not found.namespaces:
        pytest.skip("this machine allows no user namespaces")
    return found


@pytest.fixture
def held(tmp_path, able):
    """Hold a rehearsal of a bundle of these cells."""
    questions = questions_file(tmp_path / "test.csv", COUNT)

    def hold(*cells, cases=("x1",), means=able, bundle=None, **wanted):
        folder = bundle or bundle_of(tmp_path / "bundle", *cells)
        given = {"cases": cases, "ram": 10**9, "tmp": 10**8, "limit": 120.0, **wanted}
        return rehearse(Wanted(folder, questions, **given), means)

    return hold


def run_fault(report, case=0):
    fault = report.results[case].fault
    assert fault is not None and not report.passed, report.text()
    assert fault.cure and fault.error.value in report.text() and fault.cure in report.text()
    return fault


def test_a_sound_notebook_passes_every_case(held):
    report = held(*SOUND, cases=None)
    assert report.passed and [result.questions for result in report.results] == [30, 38, 150, 600]
    assert report.forecast and report.forecast.questions == 600 and not report.overrun
    assert all(result.watched.ram > 10**7 for result in report.results)


@pytest.mark.parametrize("tag", ["", "cp27-cp27mu-manylinux2014_x86_64"])
def test_a_wheel_left_out_or_for_another_python(held, tmp_path, tag):
    folder = bundle_of(tmp_path / "b", READ, INSTALL, SOUND[1], wheels=["first==1"], python="3.13")
    if tag:
        wheel_of(folder / "wheels", "first", "1", tag=tag)
    else:
        (folder / "wheels").mkdir()
    report = held(bundle=folder)
    assert run_fault(report).error is THREW and "pip finds no first==1" in run_fault(report).cause
    static = [fault.cause for fault in report.static]
    said = "not for the image's Python 3.13" if tag else "a wheel is left out: first==1"
    assert any(said in cause for cause in static)


def test_a_wheel_that_is_there_is_installed_in_every_case_anew(held, tmp_path):
    check = "import first\nassert first.ANSWER == 42 and '/rehearsal/venv' in first.__file__"
    folder = bundle_of(tmp_path / "b", READ, INSTALL, check, SOUND[1], wheels=["first==1"])
    wheel_of(folder / "wheels", "first", "1", code="ANSWER = 42")
    report = held(bundle=folder, cases=("x1", "odd"))
    assert report.passed, report.text()


def test_a_wheel_for_the_image_s_python_is_stood_in_for_by_what_is_here(held, tmp_path):
    other = "313" if sys.version_info[:2] != (3, 13) else "312"
    cell = INSTALL.replace("first==1", "packaging==99")
    folder = bundle_of(
        tmp_path / "b", READ, cell, "import packaging.version", SOUND[1], wheels=["packaging==99"],
        python=f"3.{other[1:]}",
    )  # fmt: skip
    wheel_of(folder / "wheels", "packaging", "99", tag=f"cp{other}-cp{other}-manylinux2014_x86_64")
    report = held(bundle=folder)
    assert report.passed and any("packaging are for another Python" in note for note in report.notes), (
        report.text()
    )


@pytest.mark.parametrize(
    "cells, error, said",
    [
        # A model that needs the hub, whatever this machine has of it.
        (
            ["from transformers import AutoConfig\nAutoConfig.from_pretrained('org/' + 'model')", *SOUND],
            THREW,
            "a model must come from the hub",
        ),
        (
            ["x = bytearray(1)\nfor n in range(100): x += b'x' * 50_000_000", *SOUND],
            COMPUTE,
            "more than 1.00 GB of memory",
        ),
        (
            [
                "import subprocess, sys\n"
                "subprocess.run([sys.executable, '-c', 'x = b\"x\" * 2_000_000_000; input()'])",
                *SOUND,
            ],
            COMPUTE,
            "more than 1.00 GB of memory",
        ),
        (
            [READ, "(tests[0].parent / 'cache.txt').write_text('x')", SOUND[1]],
            THREW,
            "writes to its input: /kaggle/input/exam",
        ),
        (
            [READ, "import os; os.remove(tests[0])", SOUND[1]],
            THREW,
            "writes to its input: /kaggle/input/exam",
        ),
        ([READ, "open('/kaggle/input/new', 'w')", SOUND[1]], THREW, "writes to its input: /kaggle/input/new"),
        (
            [
                "import csv\n"
                "rows = list(csv.DictReader(open('/kaggle/input/competitions/exam-of-science/test.csv')))",
                SOUND[1],
            ],
            THREW,
            "a hard-coded path: /kaggle/input/competitions/exam-of-science/test.csv",
        ),
        (
            ["for n in range(30): open(f'/tmp/{n}', 'wb').write(b'x' * 10_000_000)", *SOUND],
            COMPUTE,
            "a disk is full",
        ),
        (
            ["import urllib.request as u; u.urlopen('https://example.org')", *SOUND],
            THREW,
            "needs the internet",
        ),
        (
            ["import socket; socket.create_connection(('192.0.2.1', 80), 5)", *SOUND],
            THREW,
            "needs the internet",
        ),
        (["import os; os.kill(os.getpid(), 9)", *SOUND], THREW, "the notebook's process died"),
        ([*SOUND, "1 / 0"], THREW, "ZeroDivisionError: division by zero"),
        ([READ, write('((row["id"] + "x", "A") for row in rows)')], SCORING, "ids are not in the test set"),
        ([READ, write('((row["id"], "A") for row in rows[1:])')], SCORING, "1 of 30 questions have no row"),
        ([READ, write('((row["id"], "nan") for row in rows)')], SCORING, "the prediction is empty ('nan')"),
        (
            [READ, write('((row["id"], "A B C D") for row in rows)')],
            SCORING,
            "4 letters, and the competition takes 3",
        ),
        ([READ, write(ALL, "predictions.csv")], ErrorClass.NOT_FOUND, "it wrote predictions.csv"),
        ([READ, "open('submission.csv', 'w').write('A B C')"], ErrorClass.FORMAT, "no column 'id'"),
    ],
)
def test_a_planted_fault_has_its_class_and_cause(held, cells, error, said):
    fault = run_fault(held(*cells))
    assert fault.error is error and said in fault.cause


@pytest.mark.parametrize(
    "cell, error, said",
    [
        (f"rows = rows[:{COUNT}]", SCORING, "8 of 38 questions have no row"),
        (
            f"ids = [row['id'] for row in rows]\nrows = [{{'id': str(n)}} for n in range({COUNT})]",
            SCORING,
            "not in the test",
        ),
        (f"assert len(rows) == {COUNT}, 'rows'", THREW, "AssertionError: rows"),
    ],
)
def test_a_hard_coded_number_of_rows(held, cell, error, said):
    """The quick case is enough to find it."""
    report = held(READ, cell, SOUND[1], cases=None, quick=True)
    fault = run_fault(report)
    assert fault.error is error and said in fault.cause
    assert any(str(COUNT) in text for text in [*report.notes, *(each.cause for each in report.static)])


SLOW = "import time; time.sleep(0.05 * len(rows))"


def test_a_plan_that_overruns_at_20_times_the_size(held):
    # 600 questions take 30 seconds: the last case is not run, for the others tell how long it takes.
    report = held(READ, SLOW, SOUND[1], cases=("x1", "x5", "x20"), limit=20.0)
    assert [result.fault is None for result in report.results] == [True, True, False]
    fault = run_fault(report, 2)
    assert fault.error is ErrorClass.TIMEOUT and "600 questions would take" in fault.cause
    assert report.results[2].watched is None and "not run" in report.text()
    assert report.overrun and report.overrun.error is ErrorClass.TIMEOUT


def test_a_case_that_is_still_running_is_ended(held):
    report = held(READ, SLOW, SOUND[1], cases=("x20",), limit=12.0)
    fault = run_fault(report)
    assert fault.error is ErrorClass.TIMEOUT and "still running after 12 s" in fault.cause
    assert 12 < report.results[0].watched.seconds < 20


def test_a_forecast_beyond_what_was_run_fails_alone(held):
    report = held(READ, SLOW, SOUND[1], cases=("x1", "x5"), limit=60.0, expected=4000)
    assert all(result.fault is None for result in report.results) and not report.passed
    assert report.overrun.error is ErrorClass.TIMEOUT and "4,000 questions would take" in report.overrun.cause


def test_inputs_are_where_kaggle_puts_them_and_nothing_of_this_user_is_there(held, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "1")
    cell = """\
import os, pathlib
assert "MY_SECRET" not in os.environ and os.environ["KAGGLE_IS_COMPETITION_RERUN"] == "1"
assert os.getcwd() == "/kaggle/working" and not list(pathlib.Path("/tmp").glob("*.csv"))
assert str(pathlib.Path.home()) == "/root" and not pathlib.Path("/root/.cache/huggingface").exists()
for place in ("/root/x", "/tmp/x", "/kaggle/temp", "/kaggle/working/x"):
    os.makedirs(place)
found = {str(p.parent.relative_to("/kaggle/input")) for p in pathlib.Path("/kaggle/input").glob("**/*")
         if p.name in ("test.csv", "bundle.json")}
print(sorted(found))
assert len(os.sched_getaffinity(0)) <= 4
"""
    report = held(cell, *SOUND, cases=None)
    assert report.passed, report.text()


def test_the_user_s_own_files_stay_as_they_are(held, tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    report = held(f"open({str(mine)!r}, 'w').write('x')", *SOUND)
    assert not report.passed and mine.read_text() == "mine"


@pytest.mark.parametrize("cell, error, said", [
    ("pass", None, ""),
    ("next(INPUT.glob('**/test.csv')).parent.joinpath('x').write_text('x')", THREW, "writes to its input"),
    ("p = next(INPUT.glob('**/test.csv')); p.chmod(0o644); p.write_text('x')", THREW, "writes to its input"),
    ("import urllib.request as u; u.urlopen('https://example.org')", THREW, "needs the internet"),
    ("import socket; socket.create_connection(('192.0.2.1', 80), 5)", THREW, "needs the internet"),
    ("import os, time; open(os.environ['TMPDIR'] + '/x', 'wb').write(b'x' * 300_000_000); time.sleep(9)",
     COMPUTE, "more than 0.10 GB to /tmp"),
])  # fmt: skip
def test_without_namespaces_inputs_are_copies_that_are_compared(held, tmp_path, cell, error, said):
    less = Means(namespaces=False, own_tmp=False, control_group=False)
    folder = bundle_of(tmp_path / "b", READ, cell, SOUND[1], files={"data/x": "x"})
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    report = held(bundle=folder, means=less)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert "compared afterwards" in report.text()
    if error is None:
        assert report.passed, report.text()
    else:
        assert run_fault(report).error is error and said in run_fault(report).cause


def test_a_control_group_is_put_around_the_run(held, able, tmp_path, monkeypatch):
    """A stand-in for systemd-run that starts what it is given, for this machine may run without systemd."""
    script = tmp_path / "systemd-run"
    script.write_text(
        '#!/bin/sh\nwhile [ "$1" != -- ]; do echo "$1" >> "$0.said"; shift; done\nshift\nexec "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    report = held(*SOUND, means=dataclasses.replace(able, control_group=True))
    assert report.passed and "by a control group" in report.enforced["RAM"], report.text()
    assert "MemoryMax=1000000000" in (tmp_path / "systemd-run.said").read_text()


def test_the_program_says_it_as_text_and_json_and_by_its_exit_code(able, tmp_path, monkeypatch, capsys):
    questions = questions_file(tmp_path / "test.csv", COUNT)
    folder = bundle_of(tmp_path / "b", *SOUND, kernel={"enable_internet": True})
    flags = [
        "rehearse",
        folder,
        "--questions",
        questions,
        "--cases",
        "x1",
        "--ram",
        "1GB",
        "--keep",
        tmp_path / "kept",
    ]
    assert call(monkeypatch, *flags, "--json") == 1
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert [fault["error"] for fault in told["static"]] == ["Cannot submit"] and told["cases"][0]["passed"]
    assert "case 1 of 1: x1, 30 questions" in said.err and "  passed" in said.err
    kept = {
        path.relative_to(tmp_path / "kept" / "x1").as_posix() for path in (tmp_path / "kept").rglob("*.*")
    }
    assert {"control/executed.ipynb", "competition/test.csv", "working/submission.csv"} <= kept
    metadata = folder / "notebook" / "kernel-metadata.json"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "enable_internet": False}))
    assert call(monkeypatch, *flags[:-2]) == 0
    said = capsys.readouterr().out
    assert "me/science-exam: passed in 1 case" in said and "mounted read-only under /kaggle/input" in said
    assert not list(tmp_path.glob("rehearsal-*"))
