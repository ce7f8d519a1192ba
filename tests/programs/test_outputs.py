"""What is written where: nothing over an input, nothing of another kind, nothing after the work was done."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from question_tables import ROWS

from inference import __main__ as program
from inference.context_batches import ContextBatches
from kaggle_rag.config import ContextSettings
from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.index.index import Index
from kaggle_rag.retrieval.retriever import Retriever
from kaggle_rag.runtime.errors import ArtifactError, InputError, run_program
from kaggle_rag.runtime.files import require_new, whole_file, whole_folder


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def questions(tmp_path):
    return write(tmp_path / "questions.jsonl", ROWS)


def call(*arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["inference", *map(str, arguments)])
    return run_program(program.main)


def test_contexts_of_another_question_with_the_same_id_are_refused(
    facts_index,
    questions,
    tmp_path,
    monkeypatch,
    capsys,
):
    out = tmp_path / "c.parquet"
    assert (
        call(
            "contexts",
            "--questions",
            questions,
            "--index",
            facts_index,
            "--out",
            out,
            monkeypatch=monkeypatch,
        )
        == 0
    )
    others = write(tmp_path / "others.jsonl", [{**row, "prompt": f"Not {row['prompt']}"} for row in ROWS])
    submit = ["submit", "--contexts-file", out, "--out", tmp_path / "s.csv", "--questions"]
    assert call(*submit, others, monkeypatch=monkeypatch) == 2
    assert "another question with the id '1'" in capsys.readouterr().err
    assert not (tmp_path / "s.csv").exists()
    assert call(*submit, questions, monkeypatch=monkeypatch) == 0


@pytest.mark.parametrize(
    ("stage", "name", "said"),
    [
        ("submit", "input.csv", "overwrite an input"),
        ("submit", "notes.csv", "not a submission"),
        ("submit", "s.parquet", "extension"),
        ("submit", "folder.csv", "not a file that could be written"),
        ("contexts", "s.csv", "extension"),
        ("contexts", "foreign.parquet", "a file without contexts"),
        ("contexts", "index/new.parquet", "inside the index"),
    ],
)
def test_a_place_that_must_not_be_written_is_refused_before_any_work(
    stage,
    name,
    said,
    facts_index,
    tmp_path,
    monkeypatch,
    capsys,
):
    data = "id,prompt,A,B\n1,Which rusts?,iron,gold\n"
    for file in ("input.csv", "notes.csv", "foreign.parquet"):
        (tmp_path / file).write_text(data)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "index").symlink_to(facts_index)
    out = tmp_path / name
    flags = ["--questions", tmp_path / "input.csv", "--index", facts_index, "--out", out]
    assert call(stage, *flags, monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert said in error and "contexts:" not in error
    assert out.is_dir() or not out.exists() or out.read_text() == data


def test_a_device_is_not_replaced_and_behind_a_link_stands_the_new_file(tmp_path):
    with pytest.raises(InputError, match="file that could be written"), whole_file("/dev/null") as aside:
        aside.write_text("x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    with whole_file(tmp_path / "link.csv") as aside:
        aside.write_text("new")
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "real.csv").read_text() == "new"


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    left = tmp_path / f".s.csv.{child.pid}.part"
    mine = tmp_path / f".s.csv.{os.getppid()}.part"
    for path in (left, mine):
        path.write_text("half")
    with whole_file(tmp_path / "s.csv") as aside:
        aside.write_text("whole")
    assert not left.exists() and mine.exists()


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_of_what_fails_no_new_folder_is_left_and_no_old_one_is_lost(whole, tmp_path):
    (tmp_path / "old").mkdir()
    for place in ("old/out", "old/new/inner/out"):
        with pytest.raises(ZeroDivisionError), whole(tmp_path / place) as aside:
            (aside / "file" if aside.is_dir() else aside).write_text("half")
            raise ZeroDivisionError
        assert [path.name for path in tmp_path.rglob("*")] == ["old"]
    # What somebody else has put there meanwhile stays.
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "new/inner/out"):
        (tmp_path / "new/theirs").write_text("x")
        raise ZeroDivisionError
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "old", "theirs"]


def test_where_nothing_can_be_written_is_said_before_any_work(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    require_new(tmp_path / "new/folder/out.csv")
    assert not (tmp_path / "new").exists()
    for name in ("file/out.csv", "gone/out.csv", "file/new/out.csv"):
        with pytest.raises(InputError, match="cannot write here"):
            require_new(tmp_path / name)
    with pytest.raises(ArtifactError, match="OUT already exists"):
        require_new(tmp_path / "file")


@pytest.mark.parametrize(
    ("stage", "name", "more", "code"),
    [
        ("submit", "s.csv", ["--check"], 0),
        ("submit", "s.csv", ["--dry-run"], 0),
        ("submit", "s.csv", ["--sample", "none.csv"], 2),
        ("submit", "s.csv", ["--set", "rankers=[{kind: similarity, options: {score: zz}}]"], 2),
        ("contexts", "c.parquet", ["--limit", "0"], 2),
        ("predict", "p.predictions", ["--limit", "x"], 2),
        ("predict", "p.predictions", ["--without-contexts", "--ram", "1MB"], 2),
    ],
)
def test_a_check_and_a_refused_run_leave_nothing_on_disk(
    stage, name, more, code, facts_index, questions, tmp_path, monkeypatch, capsys
):
    flags = ["--questions", questions, "--out", tmp_path / "new/folder" / name]
    flags += ["--index", facts_index] if stage != "predict" else []
    before = sorted(tmp_path.rglob("*"))
    assert call(stage, *flags, *more, monkeypatch=monkeypatch) == code, capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_killed_contexts_stage_goes_on_with_the_batch_it_was_at(facts_index, encoder, questions, tmp_path):
    retriever, table = Retriever(Index(facts_index), encoder, ContextSettings()), Questions.read(questions)
    asked = []

    def dying(batch):
        asked.append(batch.ids[0])
        if len(asked) == 3:
            raise KeyboardInterrupt
        return retriever(batch)

    out = tmp_path / "c.parquet"
    with pytest.raises(KeyboardInterrupt):
        ContextBatches(out, table, {"of": "these"}, 1).fill(dying)
    assert not out.exists()
    again = ContextBatches(out, table, {"of": "these"}, 1)
    again.fill(dying)
    again.join()
    assert asked == [1, 2, 3, 3] and not again.work.folder.exists()
    together = [found.shared.text for found in retriever(table)]
    assert [found.shared.text for found in read_contexts(out, table)] == together
    assert json.loads(pq.read_schema(out).metadata[b"kaggle_rag"]) == {"of": "these"}


def test_batches_made_with_other_settings_are_not_taken_up(questions, tmp_path):
    table = Questions.read(questions)


    def held(keep):
        """What a stage finds in its folder."""
        with ContextBatches(tmp_path / "c.parquet", table, {"keep": keep}, 9).work.claimed() as folder:
            names = sorted(path.name for path in folder.iterdir())
            (folder / "0000000.parquet").write_text(f"made with keep {keep}")
        return names

    assert held(1) == [".lock", "notes.json"]
    assert held(1) == [".lock", "0000000.parquet", "notes.json"]
    assert held(2) == [".lock", "notes.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("rankers=[{kind: similarty}]", "similarty"),
        ("rankers=[{kind: similarity, options: {score: zz}}]", "zz"),
        ("rankers=[{kind: similarity, options: {temperature: .inf}}]", "temperature"),
        ("rankers=[{kind: similarity, weight: .inf}]", "weight"),
        ("rankers=[{kind: similarity, weight: 0}]", "all weights are 0"),
        ("device=tpu9", "no device 'tpu9'"),
        ("device=cuda:77", "no device 'cuda:77'"),
        ("limits.ram=1MB", "1.00 GB of RAM"),
    ],
)
def test_a_wrong_setting_is_told_before_any_search(
    change,
    said,
    facts_index,
    questions,
    tmp_path,
    monkeypatch,
    capsys,
):
    flags = ["--questions", questions, "--index", facts_index, "--out", tmp_path / "s.csv", "--set", change]
    assert call("submit", *flags, monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert said in error and "contexts:" not in error and not (tmp_path / "s.csv").exists()


def test_a_key_that_stands_twice_is_a_fault_and_an_encoder_beside_the_file_is_found(tmp_path):
    from kaggle_rag.config import load
    from kaggle_rag.runtime.errors import ConfigError

    path = tmp_path / "solution.yaml"
    path.write_text("out: a.csv\nout: b.csv\n")
    with pytest.raises(ConfigError, match="'out' appears twice"):
        load(path)
    (tmp_path / "enc").mkdir()
    path.write_text("encoder: enc\n")
    assert load(path).encoder == str(tmp_path / "enc")
    path.write_text("encoder: BAAI/bge-small-en-v1.5\n")
    assert load(path).encoder == "BAAI/bge-small-en-v1.5"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", "id,prompt,A,B\n1,qŁ w,x,y\n".encode("utf-16-le"), "UTF-16LE"),
        ("a.csv", "id,prompt,A,B\n1,é,x,y".encode("utf-16")[:-1], "UTF-16 text that its byte order mark"),
        ("a.csv", b"PAR1", "this is Parquet"),
        ("a.jsonl", b'{"id": ' + b"9" * 5000 + b"}\n", "line 1"),
        ("a.jsonl", b'{"id": "\\ud800", "prompt": "p", "A": "x", "B": "y"}\n', "no CSV file can hold"),
        ("a.jsonl", b'{"id": "1\\u0000x", "prompt": "p", "A": "x", "B": "y"}\n', "no CSV file can hold"),
    ],
)
def test_what_cannot_be_read_or_written_back_is_one_message(name, data, said, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=said):
        Questions.read(tmp_path / name)


def test_a_damaged_text_in_parquet_is_one_message(tmp_path):
    path = tmp_path / "q.parquet"
    table = pa.table({"id": ["zzzzzzzz"], "prompt": ["p"]})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_statistics=False)
    path.write_bytes(path.read_bytes().replace(b"zzzzzzzz", b"zzzz\xffzzz", 1))
    with pytest.raises(InputError, match="cannot be read"):
        Questions.read(path)


def test_half_a_surrogate_in_a_context_is_answered(facts_index, encoder, questions):
    row = {**ROWS[2], "context": "The zorg has \ud800 eight eyes. It sleeps."}
    found = Retriever(Index(facts_index), encoder, ContextSettings())(Questions.from_rows([row], "test"))
    assert "eight eyes" in found[0].shared.text


def test_a_missing_cell_of_a_json_solution_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "s.csv").write_text("id,prediction\n1,A\n2,B\n")
    for row, said in (({"id": 2}, "the answer is missing"), ({"answer": "B"}, "the id is empty")):
        solution = write(tmp_path / "solution.jsonl", [{"id": 1, "answer": "A"}, row])
        assert call("score", tmp_path / "s.csv", solution, monkeypatch=monkeypatch) == 2
        assert said in capsys.readouterr().err


def test_options_without_a_question_are_refused(facts_index, monkeypatch, capsys):
    assert call("ask", "--index", facts_index, "--option", "x", "--option", "y", monkeypatch=monkeypatch) == 2
    assert "--prompt" in capsys.readouterr().err


def test_a_cut_model_file_is_one_message(tmp_path):
    from model_toys import tiny_model

    from kaggle_rag.index.encoder import Encoder
    from kaggle_rag.runtime.errors import CheckpointError

    model = tiny_model(tmp_path)
    weights = next(model.rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="does not load"):
        Encoder(str(model), device="cpu")


def test_a_file_made_in_batches_names_a_missing_context(tmp_path, questions):
    table = Questions.read(questions)
    batches = ContextBatches(tmp_path / "c.parquet", table, {}, 9)
    from kaggle_rag.data.contexts import write_contexts

    write_contexts(batches.work.folder / "0000000.parquet", table.take([0]), [], {})
    with pytest.raises(ArtifactError, match="no context for the question '1'"):
        batches.join()
