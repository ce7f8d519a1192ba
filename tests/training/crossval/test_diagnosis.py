"""Diagnosis: planted wrong labels rise to the top of the list, and the list is one that training reads."""

import csv
import dataclasses
import json
import random

import numpy as np
import pyarrow.parquet as pq
import pytest
from crossval_toys import rows, solution, telling, trained
from ranker_toys import backbone

from kaggle_rag.evaluation.difficulty import Suspect
from kaggle_rag.runtime.errors import ArtifactError, ConfigError
from training.__main__ import main
from training.crossval.diagnosis import find_suspects, settings_of
from training.crossval.run import cross_validate
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


def test_the_data_map_of_all_folds_stands_beside_the_information(tmp_path):
    made = rows(24, 0)
    path = solution(tmp_path, made, telling(made), rankers=[trained(epochs=3, data_map=True)])
    settings = CrossValidationSettings(path, out=tmp_path / "run", folds=3, alike="words")
    found = find_suspects(settings, "all")
    table = pq.read_table(tmp_path / "run" / "information.parquet").to_pydict()
    # Of three folds, two see a question, in three epochs each.
    assert set(table["epochs"]) == {6} and set(found.dynamics.epochs) == {6}
    maps = [
        pq.read_table(path).to_pydict()
        for path in sorted((tmp_path / "run" / "tiny").glob("fold-*/data_map.parquet"))
    ]
    for name in ("confidence", "variability", "correctness"):
        sums = dict.fromkeys(table["id"], 0.0)
        for each in maps:
            for key, value in zip(each["id"], each[name]):
                sums[key] += value
        np.testing.assert_allclose(table[name], [total / 2 for total in sums.values()])
        assert found.as_json()["data map"][name] == pytest.approx(np.mean(table[name]), abs=1e-4)
    # Each question in the list is shown with its place in the map.
    suspect = Suspect(3, "hard", -0.5, "-0.50 bits")
    place = table["id"].index(made[3]["id"])
    said = f"{table['confidence'][place]:.2f} ± {table['variability'][place]:.2f}"
    told = dataclasses.replace(found, suspects=[suspect]).text()
    assert f"{made[3]['id']}: -0.50 bits; in training {said}, right in " in told


def test_the_question_can_be_withheld(tmp_path):
    made = rows(20, 0)
    path = solution(tmp_path, made, telling(made), rankers=[trained(epochs=1)])
    settings = CrossValidationSettings(path, out=tmp_path / "run", folds=2, alike="words")
    found = find_suspects(settings, "question")
    blank = pq.read_table(tmp_path / "run" / "without-question" / "questions.parquet").to_pydict()
    assert set(blank["prompt"]) == {"?"} and blank["A"] == [row["A"] for row in made]
    assert len(found.bits) == 20 and abs(found.bits.mean()) < 1.6


@pytest.mark.parametrize("withheld", ["contexts", "question"])
def test_a_ranker_without_its_contexts_mixes_none_and_has_no_teacher(withheld, tmp_path):
    """Its teacher has read what is withheld, and knows the questions by their prompts."""
    made = rows(20, 0)
    first = solution(tmp_path, made, telling(made), rankers=[{"kind": "similarity"}])
    cross_validate(CrossValidationSettings(first, out=tmp_path / "teacher", folds=2, alike="words"))
    taught = trained(epochs=1, marginal={"kind": "sequence"}, teacher=str(tmp_path / "teacher/oof.parquet"))
    path = solution(tmp_path, made, telling(made), name="taught", rankers=[taught])
    settings = CrossValidationSettings(path, out=tmp_path / "run", folds=2, alike="words")
    assert len(find_suspects(settings, withheld).bits) == 20
    (alone,) = (tmp_path / "run" / f"without-{withheld}").glob("*/fold-0/ranker.json")
    (whole,) = (tmp_path / "run").glob("*/fold-0/ranker.json")
    kinds = [json.loads(card.read_text())["marginal"] for card in (whole, alone)]
    assert kinds[0] != kinds[1]


def test_a_ranker_that_needs_contexts_is_refused_before_any_is_trained(tmp_path):
    made = rows(20, 0)
    reads = {"method": "knowledge", "options": {"encoder": str(backbone("bert", tmp_path / "encoder"))}}
    model = str(backbone("llama", tmp_path / "llama"))
    ranker = trained(command="causal", model=model, form="options", peft=reads)
    path = solution(tmp_path, made, telling(made), rankers=[ranker])
    settings = CrossValidationSettings(path, out=tmp_path / "run", folds=2, alike="words")
    with pytest.raises(ConfigError, match="cannot be trained without contexts"):
        find_suspects(settings, "contexts")
    assert not list(tmp_path.glob("run/*/fold-*"))
    # Another fault is not taken for that.
    path = solution(tmp_path, made, telling(made), name="wrong", rankers=[trained(epoch=1)])
    with pytest.raises(ConfigError, match="epoch") as told:
        find_suspects(CrossValidationSettings(path, out=tmp_path / "wrong", folds=2), "contexts")
    assert "without contexts" not in str(told.value)


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
    (tmp_path / "s.csv").write_text("mine")
    monkeypatch.setattr("sys.argv", ["training", "diagnose", str(path), "--out", str(tmp_path / "s.csv")])
    with pytest.raises(ArtifactError, match="a file already exists"):
        main()
    assert (tmp_path / "s.csv").read_text() == "mine"
