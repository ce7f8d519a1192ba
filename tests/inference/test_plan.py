"""The plan of a submission: its arithmetic by hand, and the dry run that measures one."""

import json
import sys

import numpy as np
import pytest
from question_tables import ROWS

from inference import __main__ as program
from inference.cascade import Cascade
from inference.checks import active_rankers
from inference.planner import _groups
from inference.predict import shares, turns_of
from inference.submission_plan import StagePlan, SubmissionPlan
from kaggle_rag.config import load
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.metrics import average_precisions
from kaggle_rag.runtime.errors import run_program


def stage(name, pace, opening=10.0):
    return StagePlan(name, opening, pace, pace / 2, pace * 2, 10**9, 0)


def test_what_is_left_is_divided_by_cost_and_the_last_one_takes_it_all():
    assert shares([100_000_000, 300_000_000]) == pytest.approx([0.25, 1.0])


def test_the_schedule_by_hand():
    plan = SubmissionPlan(
        1000, 5.0, stage("contexts", 0.1), (stage("cheap", 0.05), stage("dear", 1.0)), (0.25, 1.0), None,
    )  # fmt: skip
    assert [turn.questions for turn in plan.schedule()] == [1000, 1000, 1000]
    assert plan.seconds == pytest.approx(5 + 110 + 60 + 1010)
    limited = SubmissionPlan(1000, 5.0, plan.searching, plan.asking, plan.shares, 500.0)
    # 480 s are left; contexts take 110 of the half that they may, the cheap one 60 of a quarter of 370.
    assert [turn.questions for turn in limited.schedule()] == [1000, 1000, 300]
    assert limited.seconds == pytest.approx(5 + 110 + 60 + 310)
    assert "dear: only 300 of 1,000 questions, the least certain ones" in limited.text()
    assert "everything fits" in SubmissionPlan(10, 5.0, None, plan.asking, plan.shares, 500.0).text()


def test_groups_grow_and_each_has_short_and_long_questions():
    rows = [{**ROWS[0], "id": str(n), "prompt": "word " * (n + 1)} for n in range(100)]
    groups = [*_groups(Questions.from_rows(rows, "test"))]
    assert [len(group) for group in groups] == [16, 32, 52]
    assert sorted(np.concatenate(groups).tolist()) == list(range(100))
    assert all(group.min() < 10 and group.max() > 90 for group in groups)


def out_of_fold(path, count=300, seed=0):
    """A ranker that knows how much it knows, and one that is always right."""
    rng = np.random.default_rng(seed)
    weak = rng.dirichlet(np.full(4, 0.5), count)
    answers = np.array([rng.choice(4, p=row) for row in weak])
    strong = 0.05 + 0.8 * np.eye(4)[answers]
    tables = {
        name: (table / table.sum(axis=1, keepdims=True)).astype(np.float32)
        for name, table in (("weak", weak), ("strong", strong))
    }
    ids = tuple(str(n) for n in range(count))
    Predictions(ids, ids, np.arange(count) % 2, answers, np.ones((count, 4), bool), tables, {}).write(path)
    return tables, answers


TWO = "rankers=[{kind: similarity}, {kind: similarity, options: {score: novel}}]"


def test_expected_scores_are_those_of_the_blends_of_so_many_questions(tmp_path):
    tables, answers = out_of_fold(tmp_path / "oof.parquet")
    solution = load(None, [TWO, f"out_of_fold={tmp_path / 'oof.parquet'}"])
    cascade = Cascade.of(solution)
    present = np.ones((300, 4), bool)
    weak, both = tables["weak"], (tables["weak"] + tables["strong"]) / 2
    before, after = (average_precisions(table, answers, present) for table in (weak, both))
    found = [each.mean for each in cascade.expected([0, 1], [1.0, 1.0])]
    assert found == pytest.approx([before.mean(), after.mean()])
    half = cascade.gate([0], 1).order(weak, np.arange(300))[:150]
    mixed = before.copy()
    mixed[half] = after[half]
    (_, partly) = cascade.expected([0, 1], [1.0, 0.5])
    assert partly.mean == pytest.approx(mixed.mean())
    assert before.mean() < partly.mean < after.mean()
    assert cascade.expected([0, 1], [1.0, 0.0])[1].mean == pytest.approx(before.mean())
    # Half of the questions, well chosen, have most of the gain.
    assert partly.mean - before.mean() > 0.7 * (after.mean() - before.mean())
    assert Cascade(solution).expected([0, 1], [1, 1]) is None


def test_what_gains_most_for_its_cost_is_asked_first_and_what_gains_nothing_waits(tmp_path):
    tables, answers = out_of_fold(tmp_path / "oof.parquet")
    present = np.ones((300, 4), bool)
    solution = load(None, [TWO, f"out_of_fold={tmp_path / 'oof.parquet'}"])
    cascade = Cascade.of(solution)
    weak, strong = (average_precisions(tables[name], answers, present).mean() for name in tables)
    even = average_precisions(np.full((300, 4), 0.25), answers, present).mean()
    order, gains = cascade.order([1, 1])
    # Nothing can be added to a ranker that is always right.
    assert order == [1, 0] and gains == pytest.approx([strong - even, 0.0], abs=0.01)
    order, gains = cascade.order([1, 1000])
    assert order == [0, 1] and gains[0] == pytest.approx(weak - even) and gains[1] > 0
    # Without such predictions the cheapest is first, and both are given time.
    assert turns_of(active_rankers(solution), Cascade(solution)) == ([0, 1], [0.5, 1.0])
    first, last = turns_of(active_rankers(solution), cascade).shares
    assert first > 0.99 and last == 1.0


def test_a_dry_run_measures_every_stage_and_says_what_a_minute_gains(
    facts_index, tmp_path, monkeypatch, capsys
):
    questions = tmp_path / "questions.jsonl"
    rows = [{**ROWS[n % len(ROWS)], "id": str(n), "prompt": f"{ROWS[0]['prompt']} {n}"} for n in range(20)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    out_of_fold(tmp_path / "oof.parquet")
    command = [
        "submit", "--dry-run", "--questions", questions, "--index", facts_index, "--out", tmp_path / "s.csv",
        "--questions-expected", "4000", "--set", TWO, "--set", f"out_of_fold={tmp_path / 'oof.parquet'}",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["inference", *map(str, command)])
    assert run_program(program.main) == 0
    shown = capsys.readouterr().out
    assert "4,000 questions" in shown and "gain a minute" in shown and "Nothing was written." in shown
    monkeypatch.setattr(sys, "argv", ["inference", *map(str, command), "--json", "--time", "1h"])
    assert run_program(program.main) == 0
    plan = json.loads(capsys.readouterr().out)
    names = [each["name"] for each in plan["stages"]]
    assert names == ["contexts", "rank: similarity-2", "rank: similarity"]
    assert plan["limit"] == 3600 and plan["questions"] == 4000
    assert plan["seconds"] == pytest.approx(
        plan["starting"] + sum(each["seconds"] for each in plan["stages"]), abs=0.5
    )
    for each in plan["stages"][1:]:
        assert each["expected map@3"]["low"] <= each["expected map@3"]["mean"] <= 1
    assert "expected map@3" not in plan["stages"][0]
    assert not (tmp_path / "s.csv").exists()


def test_out_of_fold_predictions_of_other_rankers_are_reported_with_the_other_faults(
    facts_index, tmp_path, monkeypatch, capsys
):
    out_of_fold(tmp_path / "oof.parquet")
    command = [
        "submit", "--check", "--questions", tmp_path / "none.csv", "--index", facts_index,
        "--out", tmp_path / "s.csv", "--set", f"out_of_fold={tmp_path / 'oof.parquet'}",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["inference", *map(str, command)])
    assert run_program(program.main) == 2
    said = capsys.readouterr().err
    assert "out-of-fold predictions of 2 rankers, the settings name 1" in said and "none.csv" in said


def test_a_submission_that_would_write_more_than_its_limit_is_refused(
    facts_index, tmp_path, monkeypatch, capsys
):
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    command = ["submit", "--questions", questions, "--index", facts_index, "--out", tmp_path / "s.csv"]
    monkeypatch.setattr(sys, "argv", ["inference", *map(str, command), "--set", "limits.disk=1KB"])
    assert run_program(program.main) == 2
    said = capsys.readouterr().err
    assert "contexts and predictions" in said and "1.0 kB" in said and "limits.disk" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["questions.jsonl"]
