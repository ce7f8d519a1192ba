"""Weights fitted where words alone name the passage, and vectors alone the topic."""

import json
import sys

import pytest

from kaggle_rag.runtime.errors import run_program
from wiki_index import __main__ as program

CODES = [f"q{n * 37 % 100}x{n}" for n in range(40)]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Forty sentences with a code each, and forty that are nearer in meaning to every question."""
    folder = tmp_path_factory.mktemp("codes")
    with (folder / "c.jsonl").open("w") as file:
        for n, code in enumerate(CODES):
            text = (
                f"The sample {code} was weighed. Photons were entangled in the quantum laboratory {n} again."
            )
            file.write(json.dumps({"title": "Codes", "text": text}) + "\n")
    with pytest.MonkeyPatch.context() as patched:
        assert call("build", folder / "c.jsonl", folder / "index", "--lexical", monkeypatch=patched) == 0
    return folder / "index"


def call(*arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["wiki_index", *map(str, arguments)])
    return run_program(program.main)


def labelled(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def questions():
    return [
        {"id": n, "prompt": f"Were photons entangled in a quantum laboratory, as of {code}?",
         "A": "entangled photons", "B": "quantum laboratories", "fact": f"The sample {code} was weighed."}
        for n, code in enumerate(CODES)
    ]  # fmt: skip


def test_fitted_weights_are_better_than_any_retriever_alone(index, tmp_path, monkeypatch, capsys):
    path = labelled(tmp_path / "q.jsonl", questions())
    assert call("fit", index, "--questions", path, "--gold", "fact", "--json", monkeypatch=monkeypatch) == 0
    found = json.loads(capsys.readouterr().out)
    held = found["held_out"]
    assert held["fitted"][0] > max(held["bm25"][0], held["all-minilm-l6-v2"][0])
    assert dict(found["setting"]["retrievers"])["bm25"] > 0 and found["questions"] == 40
    assert call("fit", index, "--questions", path, "--gold", "fact", monkeypatch=monkeypatch) == 0
    assert "contexts: {retrievers: {" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "column", "said"),
    [
        ({"fact": ""}, "fact", "row 1"),
        ({}, "facts", "found id, prompt, A, B, fact"),
        ({"fact": "stands in no index"}, "fact", "questions have their passage"),
    ],
)
def test_labels_that_cannot_be_used_are_named(change, column, said, index, tmp_path, monkeypatch, capsys):
    path = labelled(tmp_path / "q.jsonl", [{**row, **change} for row in questions()])
    assert call("fit", index, "--questions", path, "--gold", column, monkeypatch=monkeypatch) == 2
    assert said in capsys.readouterr().err
