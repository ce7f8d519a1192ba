"""Two runs in one page: the differences that brute force gives, question by question."""

import json
import re

import numpy as np
import pytest
from question_tables import ranker
from report_toys import cli, page_of_run, synthetic

from inference.predictions import PredictionStore
from inference.report.build import report
from kaggle_rag.config import RankerSettings
from kaggle_rag.data.questions import NO_ANSWER, Questions

COUNT = 40


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of 40 questions, a better one of the last 30, and their questions."""
    folder = tmp_path_factory.mktemp("runs")
    run, questions, _ = synthetic(folder, COUNT, sentences=1, rankers=2)
    asked = Questions.read(questions).take(range(10, COUNT)[::-1])
    return run, stored(folder / "better.predictions", asked, ranker(asked.answers, 3.0, 9)), questions


def stored(out, questions, table):
    """The folder of a run by one ranker."""
    store = PredictionStore(out, questions, {"encoder": "none", "contexts": None})
    with store.work.claimed():
        store.save("only", table, {}, RankerSettings())
    return store.work.folder


def points(options):
    """AP@3 and the first letter, from the probabilities shown and which is right."""
    order = sorted(options, key=lambda each: -each[1])
    place = [right for *_, right in order].index(True)
    return (1 / (place + 1) if place < 3 else 0.0), order[0][0]


@pytest.fixture(scope="module")
def made(runs, tmp_path_factory):
    run, better, questions = runs
    return page_of_run(tmp_path_factory.mktemp("out") / "r.html", run, questions, None, compare=better)


def test_the_differences_are_those_of_brute_force(made):
    data, root = made
    gaps, changed = [], 0
    for number, question in enumerate(data.questions):
        mine = points([(o.letter, o.probability, o.right) for o in question.options])
        other = [(o.letter, o.by_ranker[-1], o.right) for o in question.options]
        if number < 10:
            assert {cell for _, cell, _ in other} == {None}
            assert not {"changed", "better", "worse"} & set(question.flags)
            continue
        theirs = points(other)
        gaps.append(mine[0] - theirs[0])
        changed += mine[1] != theirs[1]
        wanted = {"changed": mine[1] != theirs[1], "better": gaps[-1] > 0, "worse": gaps[-1] < 0}
        assert {flag for flag, holds in wanted.items() if holds} == set(question.flags) & set(wanted)
    found = data.against
    assert (found.shared, found.known, found.changed) == (30, 30, changed)
    assert found.difference.difference.mean == pytest.approx(np.mean(gaps))
    assert found.difference.difference.mean < 0 and min(found.better, found.worse) > 0
    assert (found.better, found.worse) == (sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps))
    section = root.one("section", aria_labelledby="against")
    assert section.one("h2").text == "Against better.predictions"
    assert f"{changed} of 30" in section.text and f"{np.mean(gaps):+.3f} [" in section.text


def test_the_other_run_is_a_column_of_every_question(made):
    data, root = made
    assert [each.name for each in data.rankers] == ["ranker-0", "ranker-1", "better.predictions"]
    heads = root.one("details", data_id="20").all("th", scope="col")
    assert [each.text for each in heads] == ["option", "blend", "ranker-0", "ranker-1", "better.predictions"]
    for question in data.questions[10:]:
        assert sum(option.by_ranker[-1] for option in question.options) == pytest.approx(1, abs=1e-5)


def test_a_run_against_itself_differs_in_nothing(runs, tmp_path, capsys):
    run, _, questions = runs
    out = tmp_path / "r.html"
    words = ["report", run, "--questions", questions, "--compare", run, "--out", out]
    assert cli(*words) == 0
    said = capsys.readouterr().out
    assert f"against {run}: 0 of 40 first options changed, 0 better, 0 worse" in said
    assert cli(*words, "--json") == 0
    found = json.loads(capsys.readouterr().out)["against"]
    assert found["difference"]["difference"] == {"mean": 0, "low": 0, "high": 0}


def test_without_answers_only_changes_are_told(runs, tmp_path):
    _, _, questions = runs
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    unknown = tmp_path / "test.jsonl"
    unknown.write_text("".join(json.dumps({**row, "answer": None}) + "\n" for row in rows))
    asked = Questions.read(unknown)
    assert (asked.answers == NO_ANSWER).all()
    mine = stored(tmp_path / "a.csv", asked, ranker(Questions.read(questions).answers, 1.0, 1))
    theirs = stored(tmp_path / "b.csv", asked, ranker(Questions.read(questions).answers, 1.0, 2))
    data = report(mine, unknown, None, tmp_path / "r.html", compare=theirs)
    assert data.against.difference is None and 0 < data.against.changed < COUNT
    assert sum("changed" in each.flags for each in data.questions) == data.against.changed
    assert not any({"better", "worse"} & set(each.flags) for each in data.questions)
    assert re.search(r"First options changed</dt><dd>\d+ of 40", (tmp_path / "r.html").read_text())


def test_only_the_first_questions_are_compared_where_only_they_are_shown(runs, tmp_path):
    run, better, questions = runs
    data = report(run, questions, None, tmp_path / "r.html", limit=15, compare=better)
    assert (len(data.questions), data.against.shared) == (15, 5)


@pytest.mark.parametrize("kind", ["no run", "other questions"])
def test_what_cannot_be_compared_is_refused(runs, tmp_path, capsys, kind):
    run, _, questions = runs
    other = tmp_path / "none"
    if kind == "other questions":
        other, *_ = synthetic(tmp_path, 5, sentences=1, rankers=1, seed=1)
    words = ["report", run, "--questions", questions, "--compare", other, "--out", tmp_path / "r.html"]
    assert cli(*words) == 2
    said = capsys.readouterr().err
    assert str(other) in said and "do this:" in said and not (tmp_path / "r.html").exists()
