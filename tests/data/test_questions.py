import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_rag.data.contexts import Context, QuestionContexts, write_contexts
from kaggle_rag.data.open_questions import OpenQuestions
from kaggle_rag.data.questions import LETTERS, Questions
from kaggle_rag.data.repair import read_repaired
from kaggle_rag.runtime.errors import InputError

TEXT = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=30
)
WORDS = TEXT.filter(lambda text: text.strip() != "")


@st.composite
def tables(draw):
    """Rows as a user has them: 2 to 26 option columns, some cells empty, an answer that exists."""
    letters = LETTERS[: draw(st.integers(2, 26))]
    rows = []
    for number in range(draw(st.integers(1, 5))):
        there = draw(st.sets(st.sampled_from(letters), min_size=2))
        row = {"id": f"{number:03d}", "prompt": draw(WORDS)}
        row |= {letter: draw(WORDS) if letter in there else "" for letter in letters}
        rows.append(row | {"answer": draw(st.sampled_from(sorted(there)))})
    return rows


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
@given(rows=tables())
@settings(max_examples=40)
def test_what_is_written_is_read(ending, rows, tmp_path_factory):
    questions = Questions.read(write(tmp_path_factory.mktemp("q") / f"q.{ending}", rows))
    assert list(questions.ids) == [row["id"] for row in rows]
    assert list(questions.prompts) == [row["prompt"] for row in rows]
    for row, options, answer in zip(rows, questions.options, questions.answers):
        assert options == tuple(row[letter] or None for letter in questions.letters)
        assert LETTERS[answer] == row["answer"]
    assert (questions.present == [[o is not None for o in row] for row in questions.options]).all()


def test_ids_keep_their_type_and_words_like_na_are_words(tmp_path):
    rows = [
        {"id": 7, "prompt": "p", "A": "NA", "B": "None"},
        {"id": 8, "prompt": "p", "A": "nan", "B": "null"},
    ]
    assert Questions.read(write(tmp_path / "q.parquet", rows)).ids == (7, 8)
    read = Questions.read(write(tmp_path / "q.csv", [row | {"id": "007" + str(row["id"])} for row in rows]))
    assert read.ids == ("0077", "0078")
    assert read.options == (("NA", "None"), ("nan", "null"))
    assert not read.has_answers


def test_a_contexts_file_is_none_of_questions(tmp_path):
    questions = Questions.from_rows([{"id": 1, "prompt": "?", "A": "x", "B": "y"}], "test")
    write_contexts(tmp_path / "c.parquet", questions, [QuestionContexts(Context((), ()), ())], {})
    for read in (Questions.read, OpenQuestions.read):
        with pytest.raises(InputError, match="this is a contexts file, not one of questions"):
            read(tmp_path / "c.parquet")


def test_odd_text_works(tmp_path):
    prompt = "שלום\u202e 🧪 \0" + "x" * 1_000_000
    # Python 3.10's csv writes no NUL.
    row = {"id": "1", "prompt": prompt.replace("\0", "<NUL>"), "A": "a", "B": "b", "is_question": "no"}
    path = write(tmp_path / "q.csv", [row])
    path.write_bytes(path.read_bytes().replace(b"<NUL>", b"\0"))
    questions = Questions.read(path)
    assert questions.prompts[0] == prompt.replace("\0", "")
    assert questions.is_question.tolist() == [False]


GOOD = "id,prompt,A,B,answer\n1,p,x,y,A\n"
BAD = {
    "": "empty",
    "id,prompt,A,B\n": "no rows",
    "id,A,B\n1,x,y\n": "'prompt' is missing",
    "id,prompt,A\n1,p,x\n": "'B' is missing",
    "id,prompt,A,B,D\n1,p,x,y,z\n": "'C' is missing",
    GOOD + "1,q,x,y,B\n": "rows 1 and 2",
    GOOD + ",q,x,y,B\n": "row 2, column id",
    GOOD + "2,q,x,y,C\n": "row 2, column answer",
    "id,prompt,A,B,C,answer\n1,p,x,y,,C\n": "'C' is not one of the options",
    GOOD + "2,q,x,,A\n": "1 option",
    GOOD + "2, ,x,y,A\n": "prompt is empty",
    GOOD + "2,q,x,y,A,z\n": "line 3",
    GOOD + '2,"q,x,y,A\n': "double quote",
    "id,id,prompt,A,B\n1,1,p,x,y\n": "twice",
    "id,prompt,A,B,is_question\n1,p,x,y,perhaps\n": "column is_question",
    GOOD + "2,\u200b\u2060,x,y,A\n": "row 2, column prompt",
    GOOD + "2,q,x,y,b\n": "write answers in capitals: B",
    GOOD + "2,q,x,y,AB\n": "the one letter of the right option",
    GOOD + "2,q,x,y,1\n": "A is the first option",
    GOOD + "2,q,x,y,y\n": "it is the text of option B",
    GOOD + "2,q,x,y,A B\n": "the one letter of the right option",
    'id,prompt,choices\n1,p,"[x, y]"\n': "if 'choices' holds the options as a list",
}


@pytest.mark.parametrize("text", BAD, ids=[message.replace(" ", "-") for message in BAD.values()])
def test_a_bad_csv_is_named_by_file_and_place(text, tmp_path):
    path = tmp_path / "q.csv"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        Questions.read(path)
    assert BAD[text] in str(raised.value) and str(path) in str(raised.value)


def test_missing_and_cut_files_are_named(tmp_path):
    whole = write(tmp_path / "q.parquet", [{"id": 1, "prompt": "p", "A": "x", "B": "y"}])
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "q.jsonl").write_text('{"id": 1\n')
    for name, said in [("cut.parquet", "Parquet"), ("none.csv", "no such file"), ("q.jsonl", "line 1")]:
        with pytest.raises(InputError, match=said):
            Questions.read(tmp_path / name)
    with pytest.raises(InputError, match="ending"):
        Questions.read(tmp_path / "q.xlsx")


def test_the_place_of_a_bad_row_is_its_own(tmp_path):
    """In a file whose name looks like a place, in a row whose number begins as that of the first."""
    path, faults = tmp_path / "t, row 1.csv", []
    lines = [f"{n},{' ' if n == 12 else 'p'},x,y" for n in range(1, 21)]
    path.write_text("\n".join(["id,prompt,A,B", *lines]) + "\n")
    read_repaired(path, faults.append)
    assert [fault.where for fault in faults] == [f"{path}, row 12, column prompt"]


def test_rows_that_do_not_fit_the_header_are_repaired_too(tmp_path):
    path, faults = tmp_path / "test.csv", []
    lines = ["0,What is light, sound or heat?,waves,rays,air", "1,Which?,x", "2,Which?,x,y,z", "3"]
    path.write_text("\n".join(["id,prompt,A,B,C", *lines]) + "\n")
    with pytest.raises(InputError, match="the row has 6 cells"):
        Questions.read(path)
    read = read_repaired(path, faults.append)
    assert list(read.ids) == [*"0123"]
    assert read.prompts[0] == "What is light" and read.options[0] == (" sound or heat?", "waves", "rays")
    assert read.options[1] == ("x", "?", "?") and read.options[2] == ("x", "y", "z")
    assert read.prompts[3] == "?" and read.options[3] == ("?", "?", "?")
    # A fault a row, though the last ones have no two options either.
    assert [fault.where for fault in faults] == [f"{path}, line {number}" for number in (2, 3, 5)]


def test_a_row_that_does_not_fit_a_header_with_a_nameless_column_is_repaired(tmp_path):
    path, faults = tmp_path / "test.csv", []
    path.write_text("id,prompt,A,B,\n1,p,x,y,\n3,a, b,x,y\n4,a, b,x,y,\n")
    read = read_repaired(path, faults.append)
    assert list(read.ids) == ["1", "3", "4"] and read.options[1] == (" b", "x")
    assert [fault.where for fault in faults] == [f"{path}, line 3", f"{path}, line 4"]


def test_a_row_whose_id_may_be_anothers_is_not_repaired(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("prompt,A,B,id\np,x,y,1\nwhat, is,x,y,2\n")
    with pytest.raises(InputError, match="line 3: the row has 5 cells"):
        read_repaired(path, lambda fault: None)
