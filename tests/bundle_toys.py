"""A solution to bundle, the mounts of its bundle, and its notebook run as Kaggle runs it."""

import csv
import json
import os
import shutil
import subprocess
import sys

import yaml
from conftest import ROOT
from question_tables import ROWS

from inference import __main__ as program
from kaggle_rag.runtime.errors import run_program

ID = ["--owner", "me", "--slug", "science-exam", "--competition", "exam-of-science"]
OPTION = {"temperature": 0.5}


def solution_of(folder, facts_index):
    """Write a solution with questions, and what it answers where it was made."""
    settings = {
        "questions": "test.csv", "index": str(facts_index), "out": "submission.csv", "limit": 2,
        "device": "cpu", "rankers": [{"kind": "similarity", "options": OPTION}], "limits": {"time": "1h"},
    }  # fmt: skip
    (folder / "solution.yaml").write_text(yaml.safe_dump(settings))
    fields = list(dict.fromkeys(key for row in ROWS for key in row))
    with (folder / "test.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(ROWS)
    run("submit", "--config", folder / "solution.yaml", "--set", "limit=null", kit=ROOT)


def run(*arguments, kit, cwd=None):
    """The program from a source of the kit, and nothing of this test's environment."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("KAGGLE")}
    environment = {**inherited, "PYTHONPATH": str(kit), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "inference", *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=cwd or kit, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["inference", *map(str, arguments)])
    return run_program(program.main)


def seen(folder):
    """Every file below a folder, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


LAYOUTS = {
    "plain": ("science-exam", "exam-of-science"),
    "by kind": ("datasets/me/science-exam", "competitions/exam-of-science"),
    "deep": ("datasets/me/science-exam", "competitions/exam-of-science/data"),
}


def mounted(folder, made, questions, layout):
    """An input folder as Kaggle mounts it, with inputs of others beside."""
    bundle, competition = (folder / "input" / each for each in LAYOUTS[layout])
    bundle.parent.mkdir(parents=True)
    bundle.symlink_to(made)
    competition.mkdir(parents=True)
    shutil.copy(questions, competition / "test.csv")
    for name, text in {"a-bundle": '{"id": "me/another"}', "broken": "{", "list": "[]"}.items():
        (folder / "input" / name).mkdir()
        (folder / "input" / name / "bundle.json").write_text(text)
        (folder / "input" / name / "test.csv").write_text("id,prompt,A,B\n1,Another?,x,y\n")
    (folder / "working").mkdir()


def executed(made, folder):
    """The code cells, run one after the other as a notebook does."""
    notebook = json.loads((made / "notebook" / "science-exam.ipynb").read_text())
    cells = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    environment = {
        **os.environ, "KAGGLE_INPUT": str(folder / "input"), "KAGGLE_WORKING": str(folder / "working"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", "\n\n".join(cells)]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
