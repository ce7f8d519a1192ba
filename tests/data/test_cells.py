"""A cell becomes text by one rule in every format, or is refused with its place."""

import csv
import datetime
import decimal
import io
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_rag.data.cells import number_text, text_of
from kaggle_rag.data.questions import Questions
from kaggle_rag.data.tables import column_names, read_rows
from kaggle_rag.runtime.errors import InputError


@pytest.mark.parametrize(
    "cell, text",
    [
        ("007", "007"),
        (None, None),
        (math.nan, None),
        (decimal.Decimal("NaN"), None),
        (0.0, "0"),
        (-0.0, "0"),
        (7, "7"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (math.inf, "inf"),
        (decimal.Decimal("1.50"), "1.50"),
        (decimal.Decimal("1E+3"), "1000"),
        (True, "True"),
        (datetime.date(1969, 7, 20), "1969-07-20"),
        (datetime.datetime(1969, 7, 20, 20, 17), "1969-07-20 20:17:00"),
        ("é 鉄".encode(), "é 鉄"),
        (["Iron rusts.", None, "Gold does not."], "Iron rusts.\nGold does not."),
        ([], None),
        ([b"Fe"], "Fe"),
    ],
)
def test_a_cell_has_one_text(cell, text):
    assert text_of(cell, "f, row 1, column A") == text


@pytest.mark.parametrize(
    "cell, said",
    [
        ({"text": "iron"}, "structure"),
        (["a", {"text": "iron"}], r"not text \(structure\)"),
        ([1, 2], r"not text \(int\)"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (datetime.timedelta(1), "timedelta"),
    ],
)
def test_a_cell_without_one_text_is_refused_by_its_place(cell, said):
    with pytest.raises(InputError, match=said) as raised:
        text_of(cell, "f.parquet, row 3, column A")
    assert "f.parquet, row 3, column A" in str(raised.value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_as_itself_and_is_no_longer_than_python_writes_it(value):
    assert float(number_text(value)) == value
    assert len(number_text(value)) <= max(len(repr(value)), 16)


@given(value=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float32_has_the_text_that_numpy_gives_it(value, tmp_path_factory):
    path = tmp_path_factory.mktemp("f") / "a.parquet"
    pq.write_table(pa.table({"x": pa.array([value], pa.float32())}), path)
    [row] = read_rows(path)
    assert np.float32(text_of(row["x"], "")) == np.float32(value)
    assert text_of(row["x"], "") == number_text(float(str(np.float32(value))))


def test_columns_of_every_type_make_questions(tmp_path):
    table = pa.table(
        {
            "id": pa.array([0.0, 1.0]),
            "prompt": pa.array(["When?", "How much?"]).dictionary_encode(),
            "A": pa.array(np.array([0.1, 9.8], np.float16)),
            "B": pa.array([5.0, None]),
            "C": pa.array([b"Fe", b"Au"], pa.binary()),
            "D": pa.array([datetime.date(1905, 6, 30), None]),
            "E": pa.array([True, False]),
            "F": pa.array([1_234_567_890_123_456_789, None], pa.timestamp("ns")),
            "context": pa.array([["One line.", "Another."], None]),
            "answer": pa.array(["A", "C"], pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "q.parquet")
    found = Questions.read(tmp_path / "q.parquet")
    assert found.ids == (0, 1) and all(type(key) is int for key in found.ids)
    assert found.options[0] == ("0.1", "5", "Fe", "1905-06-30", "True", "2009-02-13 23:31:30.123456")
    assert found.options[1] == ("9.8", None, "Au", None, "False", None)
    assert found.contexts == ("One line.\nAnother.", None)


def test_a_structure_is_refused_by_file_row_and_column(tmp_path):
    path = tmp_path / "q.jsonl"
    rows = [{"id": 1, "prompt": "p", "A": "x", "B": "y"}, {"id": 2, "prompt": "p", "A": "x", "B": {"t": "y"}}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"q\.jsonl, row 2, column B: the cell holds a structure"):
        Questions.read(path)


def test_text_in_parquet_that_is_no_utf8_is_named_by_column(tmp_path):
    latin = pa.array(["é".encode("latin-1")], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": ["1"], "prompt": latin}), tmp_path / "q.parquet")
    with pytest.raises(InputError, match="rows from 1, column prompt"):
        list(read_rows(tmp_path / "q.parquet"))


def test_two_columns_of_one_name_are_refused_in_every_format(tmp_path):
    (tmp_path / "a.csv").write_text("id,x,x\n1,2,3\n")
    (tmp_path / "a.jsonl").write_text('{"id": 1, "x": 2, "x": 3}\n')
    pq.write_table(pa.table([[1], [2], [3]], names=["id", "x", "x"]), tmp_path / "a.parquet")
    for ending in ("csv", "jsonl", "parquet"):
        with pytest.raises(InputError, match=r"'x' appears twice"):
            list(read_rows(tmp_path / f"a.{ending}"))


HEADER, ROW = "id,prompt,A,B", '7,"Which, of\nthe two?",é,鉄'
ENDS = {"\n": "unix", "\r\n": "windows", "\r": "mac"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ENDS, ids=ENDS.values())
def test_a_table_reads_alike_in_every_encoding_with_a_mark_and_with_every_line_end(encoding, end, tmp_path):
    (tmp_path / "q.csv").write_bytes(f"{HEADER}{end}{ROW}{end}".encode(encoding))
    rows = [{"id": "7", "prompt": "Which, of\nthe two?", "A": "é", "B": "鉄"}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows * 2]
    (tmp_path / "q.jsonl").write_bytes((end.join(lines) + end).encode(encoding))
    assert list(read_rows(tmp_path / "q.csv")) == rows
    assert list(read_rows(tmp_path / "q.jsonl")) == rows * 2


def test_big_endian_texts_are_read_by_their_marks(tmp_path):
    for codec, mark in (("utf-16-be", b"\xfe\xff"), ("utf-32-be", b"\0\0\xfe\xff")):
        (tmp_path / "a.csv").write_bytes(mark + "id,x\n1,é\n".encode(codec))
        assert list(read_rows(tmp_path / "a.csv")) == [{"id": "1", "x": "é"}]


def test_mixed_line_ends_in_one_file_end_lines(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id,x\r1,a\r\n2,b\n3,c")
    assert [row["x"] for row in read_rows(tmp_path / "a.csv")] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "encoding, said",
    [
        ("latin-1", r"line 2 is not UTF-8 \(byte 0xe9\)[\s\S]*-f WINDOWS-1252"),
        ("cp1252", r"line 2 is not UTF-8 \(byte 0xe9\)[\s\S]*-f WINDOWS-1252"),
        ("utf-16-le", "UTF-16 text without a byte order mark[\\s\\S]*-f UTF-16LE"),
        ("utf-32-be", "UTF-32 text without a byte order mark[\\s\\S]*-f UTF-32BE"),
    ],
)
def test_other_encodings_are_named_with_the_command_that_converts_them(encoding, said, tmp_path):
    (tmp_path / "q.csv").write_bytes("id,prompt,A,B\n1,é,x,y\n".encode(encoding))
    with pytest.raises(InputError, match=said):
        Questions.read(tmp_path / "q.csv")


def test_a_spreadsheets_sep_line_names_the_delimiter_and_lines_keep_their_numbers(tmp_path):
    (tmp_path / "q.csv").write_text("sep=;\nid;prompt;A;B\n1;p, q;x;y\n2;p\n")
    with pytest.raises(InputError, match="line 4: the row has 2 cells"):
        list(read_rows(tmp_path / "q.csv"))
    (tmp_path / "q.csv").write_text('"sep=\t"\nid\tprompt\n1\tp, q\n')
    assert list(read_rows(tmp_path / "q.csv")) == [{"id": "1", "prompt": "p, q"}]


@pytest.mark.parametrize("delimiter, name", [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_another_delimiter_is_named(delimiter, name, tmp_path):
    (tmp_path / "q.csv").write_text(delimiter.join(["id", "prompt", "A", "B"]) + "\n")
    with pytest.raises(InputError, match=name):
        Questions.read(tmp_path / "q.csv")


def test_empty_columns_and_rows_of_a_spreadsheet_are_no_columns_and_rows(tmp_path):
    (tmp_path / "q.csv").write_text("id,prompt,A,B,,\n1,p,x,y,,\n,,,,,\n2,q,x,y,,,,\n")
    assert column_names(tmp_path / "q.csv") == ["id", "prompt", "A", "B"]
    assert list(Questions.read(tmp_path / "q.csv").ids) == ["1", "2"]


def test_a_nameless_column_that_holds_something_is_told_and_pandas_index_is_not(tmp_path):
    (tmp_path / "q.csv").write_text("id,x,\n1,a,\n2,b,lost\n")
    with pytest.raises(InputError, match=r"line 3: column 3 has no name, but holds 'lost'"):
        list(read_rows(tmp_path / "q.csv"))
    (tmp_path / "q.csv").write_text(",id,x\n0,1,a\n")
    assert list(read_rows(tmp_path / "q.csv")) == [{"id": "1", "x": "a"}]


@pytest.mark.parametrize(
    "columns, missing, meant",
    [
        ("id Prompt A B", "prompt", "Prompt"),
        ("id question A B", "prompt", "question"),
        ("id promt A B", "prompt", "promt"),
        ("id prompt option_a option_b", "A", "option_a"),
        ("id prompt a b", "A", "a"),
        ("question_id prompt A B", "id", "question_id"),
        ("id prompt A B answer_c D", "C", None),
    ],
)
def test_a_column_of_another_name_is_asked_after(columns, missing, meant, tmp_path):
    names = columns.split()
    (tmp_path / "q.csv").write_text(",".join(names) + "\n" + ",".join("1" * len(names)) + "\n")
    with pytest.raises(InputError, match=f"column '{missing}' is missing") as raised:
        Questions.read(tmp_path / "q.csv")
    assert "columns found" not in str(raised.value)
    if meant:
        assert f"did you mean '{meant}'?" in str(raised.value)


@pytest.mark.parametrize("name, meant", [("Answer", "answer"), ("is question", "is_question"), ("c", "C")])
def test_an_optional_column_that_a_capital_would_hide_is_asked_after(name, meant, tmp_path):
    (tmp_path / "q.csv").write_text(f"id,prompt,A,B,{name}\n1,p,x,y,A\n")
    with pytest.raises(InputError, match=f"column '{name}' is not read; did you mean '{meant}'"):
        Questions.read(tmp_path / "q.csv")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("contxt", "context"), ("is_questoin", "is_question"), ("anser", "answer"), ("content", None),
        ("note", None),
    ],
)  # fmt: skip
def test_an_optional_column_that_is_nearly_spelled_so_is_told(name, meant, tmp_path, capsys):
    (tmp_path / "q.csv").write_text(f"id,prompt,A,B,{name}\n1,p,x,y,A\n")
    for _ in range(2):
        assert len(Questions.read(tmp_path / "q.csv")) == 1
    said = f"note: {tmp_path}/q.csv: column {name!r} is not read; if it is {meant!r}, rename it\n"
    assert capsys.readouterr().err == (said if meant else "")


@given(data=st.binary(max_size=200), ending=st.sampled_from(["csv", "jsonl", "parquet"]))
@settings(max_examples=150)
def test_whatever_a_file_holds_it_is_read_or_refused_in_one_message(data, ending, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / f"q.{ending}"
    path.write_bytes(data)
    try:
        found = Questions.read(path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert len(found) > 0


CELLS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NESTED = st.recursive(CELLS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner))


@given(NESTED)
def test_whatever_a_cell_holds_it_has_a_text_or_is_refused(cell):
    try:
        text = text_of(cell, "here")
    except InputError as error:
        assert str(error).startswith("here: ") and isinstance(cell, (list, dict))
    else:
        assert text is None or isinstance(text, str)


@given(rows=st.lists(st.lists(st.text("ab,\";\r\n é", max_size=6), min_size=2, max_size=2), min_size=1))
def test_what_python_writes_as_csv_is_read(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    file = io.StringIO(newline="")
    csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["x", "y"], *rows])
    path.write_bytes(file.getvalue().encode())
    assert [list(row.values()) for row in read_rows(path)] == [row for row in rows if any(row)]
