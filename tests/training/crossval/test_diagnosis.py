"""Diagnosis: planted wrong labels rise to the top of the list, and the list is one that training reads."""

import csv
import random

import numpy as np
import pyarrow.parquet as pq
import pytest
from crossval_toys import rows, solution, telling, trained

from kaggle_rag.runtime.errors import ConfigError
from training.__main__ import main
from training.crossval.diagnosis import find_suspects, settings_of
from training.crossval.settings import CrossValidationSettings
from training.rankers.settings import MultipleChoiceRun
from training.rankers.splits import split_questions

COUNT, CHANGED = 200, 10


@pytest.fixture(scope="module")
def diagnosed(tmp_path_factory):
    """A learnable task with 5 % of its labels changed at random, through the command line."""
    folder = tmp_path_factory.mktemp("diagnosed")
    made = rows(COUNT, 0)
    said, rng = telling(made), random.Random(1)
    changed = rng.sample(made, CHANGED)
    for row in changed:
        row["answer"] = rng.choice([letter for letter in "ABC" if letter != row["answer"]])
    # The same question again, with another answer.
    made.append(made[0] | {"id": "again", "answer": "ABC"["ABC".index(made[0]["answer"]) - 1]})
    said.append(said[0])
    path = solution(folder, made, said)
    with pytest.MonkeyPatch.context() as patch:
        command = ["training", "diagnose", str(path), "--folds", "2", "--alike", "words"]
        patch.setattr("sys.argv", [*command, "--out", str(folder / "suspects.csv")])
        patch.chdir(folder)
        assert main() == 0
    with (folder / "suspects.csv").open() as file:
        return folder, path, {row["id"] for row in changed}, list(csv.DictReader(file))


def test_the_top_of_the_list_holds_the_changed_labels(diagnosed):
    _, _, changed, listed = diagnosed
    top = {row["id"] for row in listed[:CHANGED]}
    assert listed[0]["reason"] == "label" and len(top & changed) >= 0.6 * CHANGED
    contradicting = {row["id"] for row in listed if row["reason"] == "contradiction"}
    assert contradicting == {"0-0", "again"}


def test_information_is_what_the_contexts_tell(diagnosed):
    """Without contexts the options are a guess among three, and with them nearly certain: log2(3) bits."""
    folder, _, changed, _ = diagnosed
    found = pq.read_table(folder / "runs" / "solution" / "information.parquet").to_pydict()
    bits = dict(zip(found["id"], found["bits"]))
    right = [bits[key] for key in bits if key not in changed]
    assert np.median(right) == pytest.approx(np.log2(3), abs=0.4)
    assert np.median([bits[key] for key in changed]) < 0 and found["bits"] == sorted(found["bits"])
    assert (folder / "runs" / "solution" / "without-contexts" / "tiny" / "fold-1.parquet").is_file()


def test_a_run_folder_is_enough_and_nothing_is_trained_again(diagnosed, monkeypatch):
    folder, _, _, listed = diagnosed
    monkeypatch.chdir("/")
    monkeypatch.setattr("training.rankers.train.train_ranker", None)
    found = find_suspects(settings_of(folder / "runs" / "solution"))
    assert len(found.suspects) == len(listed) and found.withheld == "contexts"
    # Nothing withheld from a model that reads nothing: its information is what the labels tell.
    whole = find_suspects(settings_of(folder / "runs" / "solution"), "all", "tiny").as_json()
    assert 0.8 < whole["bits"] < np.log2(3) and whole["suspects"]["contradiction"] == 2


def test_the_trainers_read_the_list(diagnosed):
    folder, _, _, listed = diagnosed
    run = MultipleChoiceRun(
        questions=folder / "solution.csv", out=folder / "out", model="none", held_out=0,
        drop=folder / "suspects.csv",
    )  # fmt: skip
    speaking = {row["id"] for row in listed if row["reason"] in ("label", "contradiction")}
    assert not speaking & set(split_questions(run)[0].questions.ids)


def test_the_question_can_be_withheld(tmp_path):
    made = rows(20, 0)
    path = solution(tmp_path, made, telling(made), rankers=[trained(epochs=1)])
    settings = CrossValidationSettings(path, out=tmp_path / "run", folds=2, alike="words")
    found = find_suspects(settings, "question")
    blank = pq.read_table(tmp_path / "run" / "without-question" / "questions.parquet").to_pydict()
    assert set(blank["prompt"]) == {"?"} and blank["A"] == [row["A"] for row in made]
    assert len(found.bits) == 20 and abs(found.bits.mean()) < 1.6


def test_what_cannot_be_diagnosed_is_told(tmp_path, monkeypatch):
    made = rows(6, 0)
    path = solution(tmp_path, made, telling(made), rankers=[{"kind": "similarity"}])
    path.write_text("\n".join(line for line in path.read_text().split("\n") if "contexts_file" not in line))
    settings = CrossValidationSettings(path, out=tmp_path / "run", folds=2, alike="words")
    with pytest.raises(ConfigError, match="no contexts to withhold"):
        find_suspects(settings, "contexts")
    monkeypatch.setattr("sys.argv", ["training", "diagnose", str(path), "--out", str(tmp_path / "s.txt")])
    with pytest.raises(ConfigError, match="cannot write a list as"):
        main()
