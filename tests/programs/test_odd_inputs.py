"""Odd paths, settings and tables: each one message in the user's words, or right."""

import os
import subprocess
import sys

import pytest

from inference.outputs import check_out
from kaggle_rag import config
from kaggle_rag.data.questions import LETTERS, Questions, id_text
from kaggle_rag.data.repair import read_repaired
from kaggle_rag.data.tables import read_rows
from kaggle_rag.runtime.errors import ConfigError, InputError, run_program


def folder(path):
    path.mkdir()


def loop(path):
    path.symlink_to(path.name)


def dangling(path):
    path.symlink_to("gone.csv")


@pytest.mark.parametrize(
    "make, said",
    [(folder, "a folder, not a table"), (loop, "where no file is"), (dangling, "a link to 'gone.csv'"),
     (os.mkfifo, "a pipe or a device"), (lambda path: None, "no such file")],
)  # fmt: skip
def test_what_is_no_file_is_called_what_it_is(make, said, tmp_path):
    make(tmp_path / "q.csv")
    with pytest.raises(InputError, match=said):
        read_rows(tmp_path / "q.csv")


def test_a_folder_is_called_one_whatever_its_name(tmp_path):
    with pytest.raises(InputError, match="a folder, not a table"):
        read_rows(tmp_path)


@pytest.mark.parametrize(
    "act, said",
    [(lambda path: path.read_text(), "this is a folder, not a file"),
     (lambda path: (path / "file" / "x").read_text(), "a part of this path is a file"),
     (lambda path: (path / "file").mkdir(), "a file exists where a folder should be created"),
     (lambda path: (path / "loop").read_text(), "leads back to itself")],
)  # fmt: skip
def test_faults_of_paths_say_which_of_the_two_it_is(act, said, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    loop(tmp_path / "loop")
    assert run_program(lambda: act(tmp_path)) == 2
    assert said in capsys.readouterr().err


def test_an_out_that_cannot_be_written_names_its_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write here") as caught:
        check_out(config.load(None, flags={"out": tmp_path / "file" / "o.csv"}), {".csv"})
    assert caught.value.where == str(tmp_path / "file")


@pytest.mark.parametrize(
    "text, said",
    [
        ("top: 0", "  top: should be greater than or equal to 1, or should be 'all' (given: 0)"),
        ("top: many", "  top: should be a whole number, or should be 'all' (given: 'many')"),
        ("top: yes", "  top: should be a whole number (given: True)"),
        ("limit: true", "  limit: should be a whole number (given: True)"),
        ("contexts: {near_duplicate: on}", "  contexts.near_duplicate: should be a number (given: True)"),
        ("contexts: {exact: maybe}", "  contexts.exact: should be true or false, or should be 'auto' (given"),
        ("rankers: []", "  rankers: should hold at least 1 (given: [])"),
        ("rankers: [{weight: 1}, {weight: no}]", "  rankers.1.weight: should be a number (given: False)"),
        ("7: seven", "  7: not the name of a setting (given: 7)"),
    ],
)
def test_a_setting_is_told_by_its_own_key_in_one_line(text, said, tmp_path):
    path = tmp_path / "solution.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert caught.value.what.startswith("1 setting is invalid:\n" + said)
    assert config.load(None, ["contexts.exact=true"]).contexts.exact is True


@pytest.mark.parametrize(
    "data, said",
    [(b"out: caf\xe9.csv", "not in UTF-8 (byte 9 is 0xe9)"), (b"contexts:\n\tper: option", "not tabs")],
)
def test_a_settings_file_that_is_no_yaml_says_how_to_mend_it(data, said, tmp_path):
    path = tmp_path / "solution.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert said in str(caught.value)


def row(key, **more):
    return {"id": key, "prompt": "Which?", "A": "this", "B": "that", **more}


def test_ids_that_differ_by_spaces_alone_are_one_id():
    with pytest.raises(InputError, match="id '7' appears in two rows"):
        Questions.from_rows([row("7"), row("8"), row(" 7 ")], "q.csv")
    assert Questions.from_rows([row(" 7"), row("77")], "q.csv").ids == (" 7", "77")


def test_an_id_beyond_what_a_float_can_tell_keeps_its_own_text():
    ids = Questions.from_rows([row(4e300), row(2.0**40), row(2**70 + 1)], "q.jsonl").ids
    assert [id_text(key) for key in ids] == ["4e+300", "1099511627776", "1180591620717411303425"]


def test_a_27th_option_is_refused_and_not_lost():
    options = {letter: f"option {letter}" for letter in LETTERS}
    assert Questions.from_rows([row(1, **options)], "q.csv").width == 26
    with pytest.raises(InputError, match="'AA' would be the 27th option"):
        Questions.from_rows([row(1, **options, AA="one more")], "q.csv")
    # Beside fewer options the name is somebody's own column.
    assert Questions.from_rows([row(1, AA="note")], "q.csv").width == 2


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("id,prompt,A,B,C,D,e", "'e'"), ("id,prompt,A,B,D", "column 'C' is missing"),
        ("id,prompt,A,B,Is_Question", "Is_Question"),
        ("id,prompt," + ",".join(LETTERS) + ",AA", "27th option"),
    ],
)  # fmt: skip
def test_no_row_is_repaired_where_a_column_is_at_fault(tmp_path, header, said):
    table, faults = tmp_path / "q.csv", []
    table.write_text(header + "\n" + ",".join(f"cell {n}" for n in range(len(header.split(",")))) + "\n")
    with pytest.raises(InputError, match=said):
        read_repaired(table, faults.append)
    assert not faults


def test_a_repaired_row_is_still_a_question_or_an_instruction(tmp_path):
    table, faults = tmp_path / "q.csv", []
    table.write_text("id,prompt,A,B,is_question\n1,,x,y,no\n2,Which?,x,y,maybe\n3,Which?,x,,no\n4,Say,x,y,0\n")
    read = read_repaired(table, faults.append)
    assert read.is_question.tolist() == [False, True, False, False] and len(faults) == 3
    assert read.prompts == ("?", "Which?", "Which?", "Say") and read.options[2] == ("x", "?")


def test_a_check_tells_a_budget_that_no_run_fits_in(tmp_path):
    questions = tmp_path / "q.csv"
    questions.write_text("id,prompt,A,B\n1,Which?,this,that\n")
    command = ["submit", "--check", "--without-contexts", "--ram", "5MB", "--questions", str(questions)]
    command += ["--out", str(tmp_path / "o.csv")]
    told = subprocess.run([sys.executable, "-m", "inference", *command], capture_output=True, text=True)
    assert told.returncode == 2 and "'answering' would need" in told.stderr
    assert not (tmp_path / "o.csv").exists()
