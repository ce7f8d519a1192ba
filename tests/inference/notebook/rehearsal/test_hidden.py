"""Hidden test sets: of the wished size, with new ids, in the format and with the types of the visible one."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from question_tables import ROWS

from inference.notebook.rehearsal.cases import CASES, LAYOUTS, chosen, mounts
from inference.notebook.rehearsal.hidden import ODD, Visible, hidden, write_competition
from kaggle_rag.data.questions import Questions
from kaggle_rag.data.repair import read_repaired
from kaggle_rag.runtime.errors import ConfigError, InputError


@pytest.fixture(params=[".csv", ".jsonl", ".parquet"])
def visible(request, tmp_path):
    path = tmp_path / f"test{request.param}"
    columns = ["id", "prompt", "A", "B", "C", "context", "is_question"]
    rows = [{name: row.get(name) for name in columns} | {"answer": "A"} for row in ROWS]
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*columns, "answer"])
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return Visible.read(path)


def written(visible, made, tmp_path):
    folder = tmp_path / "competition"
    write_competition(folder, visible.path.name, visible, made)
    return folder / visible.path.name


@pytest.mark.parametrize("factor", [1, 5])
def test_a_hidden_set_reads_as_the_visible_one_and_says_nothing_of_it(visible, tmp_path, factor):
    made = hidden(visible, factor, odd=False, seed=1)
    path = written(visible, made, tmp_path)
    before, after = Questions.read(visible.path), Questions.read(path)
    assert len(after) == factor * len(before) == len(made)
    assert not {str(key) for key in after.ids} & {str(key) for key in before.ids}
    assert [str(key) for key in after.ids] == list(made.ids) and len(set(made.ids)) == len(made)
    assert {type(key) for key in after.ids} == {type(key) for key in before.ids}
    assert not after.has_answers and "answer" not in visible.columns
    # The same questions, in another order; each copy has its own words.
    assert set(after.prompts) >= set(before.prompts) and after.prompts != before.prompts * factor
    assert len(set(after.prompts)) == len(after)
    assert {tuple(sorted(text.split())) for text in after.prompts} == {
        tuple(sorted(text.split())) for text in before.prompts
    }
    assert set(after.contexts) == set(before.contexts)
    rows = list(csv.reader((path.parent / "sample_submission.csv").open(newline="")))
    assert rows[0] == ["id", "prediction"] and [row[0] for row in rows[1:]] == list(made.ids)


def test_odd_rows_are_there_and_the_seed_decides(visible, tmp_path):
    made = hidden(visible, 1, odd=True, seed=3)
    assert len(made) == len(ROWS) + len(ODD)
    assert made == hidden(visible, 1, odd=True, seed=3) != hidden(visible, 1, odd=True, seed=4)
    faults = []
    read = read_repaired(written(visible, made, tmp_path), faults.append)
    assert len(read) == len(made) and faults
    texts = [*read.prompts, *(option for row in read.options for option in row if option)]
    assert any(len(text) == 20_000 for text in read.prompts) and any("🧪" in text for text in texts)
    assert any('"quoted"' in text and "\n" in text for text in texts)
    assert "?" in read.prompts and any(row[1] is None for row in read.options)


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        ([1.0, 2.0], pa.float64()), ([126, 127], pa.int8()), (["1", "2"], pa.string()), ([3, 4], pa.int64()),
        (["1", "2"], pa.dictionary(pa.int32(), pa.string())),
    ],
)  # fmt: skip
@pytest.mark.parametrize("options", [[1, 2], [1.5, 2.5], ["x", "y"]])
def test_a_parquet_file_of_any_types(tmp_path, ids, kind, options):
    columns = {"prompt": ["How many?", "How far?"], "A": options, "B": options}
    pq.write_table(pa.table({"id": pa.array(ids).cast(kind), **columns}), tmp_path / "test.parquet")
    seen = Visible.read(tmp_path / "test.parquet")
    made = hidden(seen, 70, odd=True, seed=3)
    path = written(seen, made, tmp_path)
    assert len(made) == 140 + len(ODD) and pq.read_schema(path).names == ["id", "prompt", "A", "B"]
    read = read_repaired(path, lambda fault: None)
    assert [str(key) for key in read.ids] == list(made.ids)
    assert any("🪐" in str(row) for row in read.options)


def test_text_ids_stay_text(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("id,prompt,A,B\n007,x,a,b\nq-8,y,c,d\n")
    made = hidden(Visible.read(path), 5, odd=False, seed=0)
    assert len(set(made.ids)) == 10 and all(key.startswith("h") for key in made.ids)


def test_what_is_no_test_file_is_refused(tmp_path):
    (tmp_path / "test.csv").write_text("id,question\n1,x\n")
    with pytest.raises(InputError, match="column 'prompt' is missing"):
        Visible.read(tmp_path / "test.csv")


def test_every_layout_and_every_size_has_a_case():
    assert {case.layout for case in CASES.values()} == LAYOUTS.keys()
    assert {case.factor for case in CASES.values()} == {1, 5, 20} and any(c.odd for c in CASES.values())
    assert [case.name for case in chosen(("x20", "x1"), quick=False)] == ["x1", "x20"]
    assert [case.name for case in chosen(None, quick=True)] == ["odd"]
    with pytest.raises(ConfigError, match="no case 'x2'"):
        chosen(("x2",), quick=False)


def test_mounts_are_as_on_kaggle():
    assert mounts("plain", "me", "data", "exam") == ("data", "exam")
    assert mounts("by kind", "me", "data", "exam") == ("datasets/me/data", "competitions/exam")
    assert mounts("mixed", "me", "data", "") == ("datasets/me/data", "the-competition")
