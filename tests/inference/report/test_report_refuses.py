"""Inputs that are none, or of other runs, get one message, and leave what was there as it was."""

import json
import shutil

import pytest
from report_toys import cli, synthetic


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return synthetic(folder, 8, sentences=2, rankers=2)


@pytest.fixture
def inputs(made, tmp_path):
    """A copy that a test may damage."""
    for path in made:
        (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    return {"run": tmp_path / made[0].name, "questions": tmp_path / made[1].name,
            "contexts": tmp_path / made[2].name, "out": tmp_path / "r.html"}  # fmt: skip


def report(inputs, capsys):
    """The exit code, and what was said."""
    words = ["report", inputs["run"], "--questions", inputs["questions"], "--out", inputs["out"]]
    contexts = ["--contexts-file", inputs["contexts"]] if inputs["contexts"] else []
    return cli(*words, *contexts), capsys.readouterr().err


def refused(inputs, capsys, *parts):
    """Whether these parts are in the message, which is the only one, and no page was written."""
    before = inputs["out"].read_bytes() if inputs["out"].is_file() else None
    code, said = report(inputs, capsys)
    assert code == 2 and said.startswith("error: ") and "do this:" in said and "Traceback" not in said, said
    assert (inputs["out"].read_bytes() if inputs["out"].is_file() else None) == before
    assert not list(inputs["out"].parent.glob(".*.part"))
    return [part for part in parts if part not in said] == []


def test_what_is_sound_is_taken(inputs, capsys):
    assert report(inputs, capsys)[0] == 0 and inputs["out"].stat().st_size > 10_000
    # A report of before is replaced.
    assert report({**inputs, "contexts": None}, capsys)[0] == 0
    assert "no evidence is shown: --contexts-file was not given" in inputs["out"].read_text()


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "no rankers"])
def test_a_folder_that_is_no_run(inputs, capsys, kind):
    run = inputs["run"].with_name("other")
    if kind == "file":
        run.write_text("x")
    elif kind != "missing":
        run.mkdir()
    if kind == "no rankers":
        shutil.copy(inputs["run"] / "key.json", run)
    what = {"missing": "no such folder", "no rankers": "no ranker has answered yet"}
    assert refused({**inputs, "run": run}, capsys, str(run), what.get(kind, "nothing that could be reported"))


def test_a_submission_leads_to_its_folder(inputs, capsys):
    run = inputs["run"].with_name("made.csv")
    run.write_text("id,prediction\n")
    assert refused({**inputs, "run": run}, capsys, f"pass {inputs['run']}")


@pytest.mark.parametrize("run", [".", "/"])
def test_a_folder_without_a_name_of_its_own(inputs, capsys, monkeypatch, run):
    monkeypatch.chdir(inputs["out"].parent)
    assert refused({**inputs, "run": run}, capsys, "nothing that could be reported lies here")
    monkeypatch.chdir(inputs["run"])
    assert report({**inputs, "run": "."}, capsys)[0] == 0
    assert "<h1>made.predictions</h1>" in inputs["out"].read_text()


@pytest.mark.parametrize("change", ["prompt", "A", "id"])
def test_other_questions(inputs, capsys, change):
    rows = [json.loads(line) for line in inputs["questions"].read_text().splitlines()]
    rows[5][change] = "something else"
    inputs["questions"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    what = "is missing" if change == "id" else "is another one than the run's"
    assert refused(inputs, capsys, f"the question '5' {what}")


def test_contexts_of_other_rankers(inputs, capsys, tmp_path):
    (tmp_path / "more").mkdir()
    _, _, other = synthetic(tmp_path / "more", 8, sentences=3)
    told = "not the contexts that the rankers read"
    assert refused({**inputs, "contexts": other}, capsys, str(other), told)


@pytest.mark.parametrize(
    ("stored", "what"), [(None, "without contexts"), ({"per": "question"}, "searched its")]
)
def test_contexts_for_a_run_that_was_given_none(inputs, capsys, stored, what):
    (inputs["run"] / "key.json").write_text(json.dumps({"contexts": stored}))
    assert refused(inputs, capsys, "--contexts-file", what)


def test_contexts_of_other_questions(inputs, capsys, tmp_path):
    """The run does not say which file it read, so that only the questions can tell."""
    (tmp_path / "more").mkdir()
    _, _, other = synthetic(tmp_path / "more", 8, seed=1)
    (inputs["run"] / "key.json").write_text(json.dumps({"contexts": ""}))
    assert refused({**inputs, "contexts": other}, capsys, "made for another question")


@pytest.mark.parametrize("name", ["r.htm", "r.csv", "r"])
def test_an_out_with_another_ending(inputs, capsys, name):
    code, said = report({**inputs, "out": inputs["out"].with_name(name)}, capsys)
    assert code == 2 and "wrong extension" in said and "expected: .html" in said
    assert not inputs["out"].with_name(name).exists()


@pytest.mark.parametrize("target", ["questions", "contexts", "ranker"])
def test_an_out_that_is_an_input(inputs, capsys, target):
    path = inputs["run"] / "ranker-0.parquet" if target == "ranker" else inputs[target]
    inputs["out"].hardlink_to(path)
    assert refused(inputs, capsys, "this would overwrite an input")


def test_an_out_that_is_someone_else_s(inputs, capsys):
    inputs["out"].write_text("<!DOCTYPE html><title>my thesis</title>")
    assert refused(inputs, capsys, "a file that is not a report already exists")


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("ranker-1.parquet", "PAR1", "not a predictions file"),
        ("run.json", '{"stages": [{"name": "rank: ranker-0", "colour": 1}]}', "the stages cannot be read"),
        ("run.json", '{"stages": [{"name": "rank: ranker-0"}]}', "no ranker has answered yet"),
        ("run.json", '{"mix": {"rule": "votes"}}', "no blending rule 'votes'"),
    ],
)
def test_damaged_files(inputs, capsys, file, content, what):
    (inputs["run"] / file).write_text(content)
    code, said = report(inputs, capsys)
    assert code == 2 and what in said and file.split(".")[0] in said + "run" and not inputs["out"].exists()


@pytest.mark.parametrize("content", ["", "{", "[]", None])
def test_a_run_that_does_not_say_how_it_was_mixed_says_that(inputs, capsys, content):
    file = inputs["run"] / "run.json"
    file.unlink(missing_ok=True) if content is None else file.write_text(content)
    code, _ = report(inputs, capsys)
    assert code == 0 and "run.json is missing or damaged" in inputs["out"].read_text()


def test_rankers_of_different_questions(inputs, capsys, tmp_path):
    (tmp_path / "more").mkdir()
    other, _, _ = synthetic(tmp_path / "more", 9)
    shutil.copy(other / "ranker-1.parquet", inputs["run"])
    assert refused(inputs, capsys, "its questions are not those of the other rankers")


@pytest.mark.parametrize("metrics", [None, "{", "{}", '{"weights": {"weights": {"nobody": 1}}}'])
def test_a_cross_validation_without_its_metrics(inputs, capsys, tmp_path, metrics):
    run = tmp_path / "cv"
    run.mkdir()
    shutil.copy(inputs["run"] / "ranker-0.parquet", run / "oof.parquet")
    if metrics:
        (run / "metrics.json").write_text(metrics)
    assert refused({**inputs, "run": run}, capsys, "metrics.json")


def test_every_fault_is_told_at_once(inputs, capsys):
    code, said = report(
        {**inputs, "run": inputs["run"] / "no", "questions": inputs["questions"] / "no",
         "out": inputs["out"].with_suffix(".txt")}, capsys,
    )  # fmt: skip
    assert code == 2 and "3 things must be fixed" in said
