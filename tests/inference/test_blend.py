"""Runs blended into one submission: each as it was mixed itself, with what the first of them wrote."""

import json
import shutil

import numpy as np
import pytest
from question_tables import ROWS
from submit_toys import Submit

import inference.submit as module
from inference import __main__ as program
from inference.blend import blend_runs
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.questions import Questions
from kaggle_rag.data.submission import validate
from kaggle_rag.ensembling.stacking import fit_stack
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError, run_program

COUNT = 20
FIRST, SECOND = ({"kind": "similarity", "options": {"score": score}} for score in ("weighed", "novel"))


@pytest.fixture
def submit(tmp_path, monkeypatch, capsys):
    """``submit`` of 20 questions to a file by a name; gives the file and the folder of the run."""
    rows = [
        {**ROWS[n % len(ROWS)], "id": str(n), "prompt": f"{ROWS[n % len(ROWS)]['prompt']} {n}"}
        for n in range(COUNT)
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def submit(name, rankers, *flags):
        made = Submit(path, tmp_path, monkeypatch, capsys)
        made.out = tmp_path / f"{name}.csv"
        code, said = made(rankers, *flags)
        assert code == 0, said
        return made.out, tmp_path / f"{name}.predictions"

    submit.questions = Questions.read(path)
    return submit


def written(path, questions):
    return validate(path, questions.ids, questions.options)


def test_runs_of_teammates_are_blended(submit, tmp_path):
    folders = [submit(name, [ranker])[1] for name, ranker in (("a", FIRST), ("b", SECOND))]
    tables = [Predictions.read(each / "similarity.parquet").tables["similarity"] for each in folders]
    report = blend_runs(folders, tmp_path / "both.csv", [3, 1])
    by_hand = (3 * tables[0] + tables[1]) / 4
    expected = [
        [int(c) for c in np.argsort(-row, kind="stable") if p[c]][:3]
        for row, p in zip(by_hand, submit.questions.present)
    ]
    assert written(tmp_path / "both.csv", submit.questions) == expected
    assert [answered for *_, answered in report.runs] == [COUNT, COUNT] and "weight 3" in report.text()
    whole = (tmp_path / "both.csv").read_bytes()
    for weights, said in (
        ([1], "1 weight for 2 runs"), ([float("nan"), 2], "by the weights nan, 2"),
        ([0, 0], "not all of them 0"), ([float("inf"), 2], "inf"), ([1e308, 1e308], "1e\\+308"),
        ([-1, 2], "-1, 2"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            blend_runs(folders, tmp_path / "both.csv", weights)
    assert (tmp_path / "both.csv").read_bytes() == whole


@pytest.mark.parametrize("rule", ["ranks", "logits"])
def test_a_run_is_mixed_as_its_own_solution_says(submit, tmp_path, rule):
    out, folder = submit("a", [{**FIRST, "weight": 2}, SECOND], "--set", f"blend={rule}")
    blend_runs([folder], tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes() == out.read_bytes()


def test_a_stacked_run_is_blended_by_its_stack(submit, tmp_path):
    """Learnt from answers that are those of one ranker turned upside down: no blend says the same."""
    plain, folder = submit("plain", [FIRST, SECOND])
    tables = {
        name: Predictions.read(folder / f"{name}.parquet").tables[name]
        for name in ("similarity", "similarity-2")
    }
    present = submit.questions.present
    worst = np.where(present, tables["similarity"], np.inf).argmin(axis=1)
    fit_stack(tables, worst, present).stack.save(tmp_path / "stack.npz")
    out, folder = submit("stacked", [FIRST, SECOND], "--set", f"stack={tmp_path / 'stack.npz'}")
    assert out.read_bytes() != plain.read_bytes()
    blend_runs([folder], tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes() == out.read_bytes()


def test_a_stack_of_the_same_rankers_in_another_order_is_refused(submit, tmp_path):
    table = np.where(submit.questions.present, 0.5, 0).astype(np.float32)
    tables, answers = {"similarity-2": table, "similarity": table}, np.zeros(COUNT, int)
    fit_stack(tables, answers, submit.questions.present).stack.save(tmp_path / "stack.npz")
    with pytest.raises(AssertionError, match="are in another order"):
        submit("a", [FIRST, SECOND], "--set", f"stack={tmp_path / 'stack.npz'}")
    assert not (tmp_path / "a.csv").exists()


def test_a_run_that_was_killed_is_mixed_of_all_that_answered(submit, tmp_path, monkeypatch):
    """An earlier run in the same folder had one ranker: what it wrote of itself tells nothing any more."""
    submit("a", [FIRST])
    run = module._answer

    def killed(*given, **named):
        run(*given, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_answer", killed)
    with pytest.raises((KeyboardInterrupt, AssertionError)):
        submit("a", [FIRST, SECOND])
    report = blend_runs([tmp_path / "a.predictions"], tmp_path / "b.csv")
    assert report.runs[0][1] == ("similarity", "similarity-2")
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()


def test_as_many_letters_are_written_as_the_first_run_wrote(submit, tmp_path, monkeypatch):
    out, whole = submit("whole", [FIRST], "--top", "all")
    _, three = submit("three", [FIRST])
    for runs, top, letters in (([whole, three], None, 26), ([three, whole], None, 3), ([three], 2, 2)):
        blend_runs(runs, tmp_path / "b.csv", top=top)
        expected = [row[:letters] for row in written(out, submit.questions)]
        assert written(tmp_path / "b.csv", submit.questions) == expected
    command = ["inference", "blend", three, "--top", "all", "--out", tmp_path / "b.csv"]
    monkeypatch.setattr("sys.argv", [*map(str, command)])
    assert run_program(program.main) == 0 and (tmp_path / "b.csv").read_bytes() == out.read_bytes()


def test_a_first_run_of_some_questions_makes_a_partial_submission(submit, tmp_path):
    _, part = submit("part", [FIRST], "--limit", "5")
    _, whole = submit("whole", [FIRST])
    report = blend_runs([part, whole], tmp_path / "b.csv")
    assert report.left_out == COUNT - 5 and "PARTIAL: 15 questions of other runs" in report.text()
    assert blend_runs([whole], tmp_path / "c.csv").left_out == 0


def test_a_question_that_no_run_answered_or_one_is_sure_of_has_all_of_its_letters(tmp_path):
    questions = Questions.from_rows(
        [{"id": n, "prompt": f"q{n}", **dict(zip("ABCDE"[: 5 - n], "vwxyz"))} for n in range(4)], "test"
    )
    sure = np.zeros((4, 5), np.float32)
    sure[:3, 1] = 1
    sure[2:] = np.nan
    path = tmp_path / "run.parquet"
    Predictions.of(questions, np.full(4, -1), {"r": sure}, {}).write(path)
    np.testing.assert_array_equal(Predictions.read(path).present, questions.present)
    report = blend_runs([path, path], tmp_path / "b.csv", [1, 2])
    assert written(tmp_path / "b.csv", questions) == [[1, 0, 2], [1, 0, 2], [0, 1, 2], [0, 1]]
    assert report.unanswered == 2 and "no run answered 2 questions" in report.text()
    assert [answered for *_, answered in report.runs] == [2, 2]


def test_what_does_not_fit_together_is_refused(submit, tmp_path):
    _, folder = submit("a", [FIRST])
    (tmp_path / "other").mkdir()
    asked = submit.questions.take(range(5, 10))
    table = np.where(asked.present, 0.5, 0).astype(np.float32)
    stored = Predictions.of(asked, np.full(5, -1), {"r": table}, {"weight": "heavy"})
    stored.write(tmp_path / "other" / "r.parquet")
    with pytest.raises(ArtifactError, match="cannot read the weight"):
        blend_runs([tmp_path / "other"], tmp_path / "b.csv")
    stored = Predictions.of(asked, np.full(5, -1), {"r": table}, {})
    stored.write(tmp_path / "other" / "r.parquet")
    with pytest.raises(InputError, match="15 questions of the first run are not in it"):
        blend_runs([folder, tmp_path / "other"], tmp_path / "b.csv")
    shutil.copy(tmp_path / "other" / "r.parquet", tmp_path / "other" / "again.parquet")
    with pytest.raises(InputError, match="a second table of the ranker 'r'"):
        blend_runs([tmp_path / "other"], tmp_path / "b.csv")
    with pytest.raises(InputError, match="no predictions here"):
        blend_runs([tmp_path / "none"], tmp_path / "b.csv")
    assert not (tmp_path / "b.csv").exists()
