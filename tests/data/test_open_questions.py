"""Questions with answers in words from every layout, and their faults with file and place."""

import bz2
import copy
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kaggle_rag.data.open_questions import OpenQuestions
from kaggle_rag.runtime.errors import InputError

SQUAD = {
    "version": "v2.0",
    "data": [
        {"title": "Normans", "paragraphs": [
            {"context": "The Normans gave their name to Normandy, a region in France.", "qas": [
                {"id": "56ddde6b", "question": "In what country is Normandy located?", "is_impossible": False,
                 "answers": [{"text": "France", "answer_start": 53}, {"text": "France", "answer_start": 53},
                             {"text": "in France", "answer_start": 50}]},
                {"id": "5ad39d53", "question": "Who gave their name to Normandy in the 1000's?",
                 "is_impossible": True, "answers": [], "plausible_answers": [{"text": "Normans"}]},
            ]},
            {"context": "Another paragraph.", "qas": []},
        ]},
    ],
}  # fmt: skip
NATURAL = {
    "example_id": 5655493461695504401,
    "question_text": "which is the most common use of opt-in e-mail marketing",
    "document_text": "Opt-in <P> A common example is a newsletter sent to <B> customers </B> . </P>",
    "annotations": [
        {"yes_no_answer": "NONE", "long_answer": {"start_token": 1},
         "short_answers": [{"start_token": 6, "end_token": 12}]},
        {"yes_no_answer": "YES", "short_answers": []},
        {"yes_no_answer": "NONE", "short_answers": [{"start_token": 6, "end_token": 8}]},
    ],
}  # fmt: skip


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_squad_is_read_with_its_paragraphs_and_questions_without_an_answer(tmp_path):
    path = tmp_path / "dev-v2.0.json.bz2"
    path.write_bytes(bz2.compress(json.dumps(SQUAD).encode()))
    read = OpenQuestions.read(path)
    assert read.questions.ids == ("56ddde6b", "5ad39d53")
    assert read.questions.prompts[0] == "In what country is Normandy located?"
    assert set(read.questions.contexts) == {SQUAD["data"][0]["paragraphs"][0]["context"]}
    assert read.golds == (("France", "in France"), ("",))
    assert read.questions.width == 0 and len(read.first(1)) == 1


def test_squad_as_the_datasets_library_stores_it(tmp_path):
    path = tmp_path / "validation.parquet"
    rows = [
        {"id": "a", "question": "Where?", "context": "In France.", "answers": {"text": ["France"]}},
        {"id": "b", "question": "When?", "context": "In France.", "answers": {"text": []}},
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    read = OpenQuestions.read(path)
    assert read.golds == (("France",), ("",)) and read.questions.prompts == ("Where?", "When?")


def test_natural_questions_open_has_the_rows_as_ids(tmp_path):
    path = lines(
        tmp_path / "nq.jsonl",
        {"question": "where did they film hot tub time machine", "answer": ["Fernie Alpine Resort"]},
        {"question": "who has the right of way", "answer": ["Italy", "All", "Italy "]},
    )
    read = OpenQuestions.read(path)
    assert read.questions.ids == (1, 2)
    assert read.golds == (("Fernie Alpine Resort",), ("Italy", "All"))


def test_the_simplified_natural_questions_give_their_short_answers(tmp_path):
    none = {**NATURAL, "example_id": 2, "annotations": [{"yes_no_answer": "NONE", "short_answers": []}]}
    read = OpenQuestions.read(lines(tmp_path / "simplified.jsonl", NATURAL, none))
    assert read.questions.ids == (5655493461695504401, 2)
    assert read.golds == (("a newsletter sent to customers", "yes", "a newsletter"), ())
    assert read.questions.contexts == (None, None)


@pytest.mark.parametrize(
    ("text", "golds"),
    [
        ("id,prompt,answer\n1,How many?,two\n2,Which?,\n", (("two",), ())),
        ('id,prompt,answers\n1,How many?,"[""two"", ""2""]"\n2,Which?,\n', (("two", "2"), ())),
        ('id,prompt,answer\n1,How many?,"[""two""]"\n', (('["two"]',),)),
        ("id,prompt,A,B,answer\n1,How many?,one,two,B\n2,Which?,this,that,\n", (("two",), ())),
        ("id,question\n1,How many?\n", ((),)),
    ],
)
def test_tables_with_one_right_answer_several_or_options(text, golds, tmp_path):
    path = tmp_path / "q.csv"
    path.write_text(text)
    assert OpenQuestions.read(path).golds == golds


def test_options_may_be_missing_in_the_first_row(tmp_path):
    path = lines(
        tmp_path / "q.jsonl",
        {"id": 1, "prompt": "Which?", "A": "iron", "C": "tin", "answer": "A"},
        {"id": 2, "prompt": "Which?", "A": "gold", "B": "lead", "answer": "B"},
    )
    assert OpenQuestions.read(path).golds == (("iron",), ("lead",))


@pytest.mark.parametrize("column", ["answer", "answers"])
def test_a_column_that_is_read_is_not_called_misspelt(column, tmp_path, capsys):
    row = {"id": 1, "prompt": "Which?", "question": "x", column: ["iron"]}
    path = lines(tmp_path / f"{column}.jsonl", row)
    assert OpenQuestions.read(path).golds == (("iron",),)
    assert "is not read" not in capsys.readouterr().err
    path = lines(tmp_path / "c.jsonl", {"id": 1, "prompt": "Which?", "contxt": "x"})
    OpenQuestions.read(path)
    assert "column 'contxt' is not read; if it is 'context', rename it" in capsys.readouterr().err


def broken(change):
    """SQuAD with a fault."""
    squad = copy.deepcopy(SQUAD)
    change(squad["data"][0]["paragraphs"][0])
    return squad


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("s.json", "{", "s.json: not JSON"),
        ("s.json", json.dumps([1]), "s.json: not the layout of SQuAD"),
        ("s.json", json.dumps({"data": 3}), "s.json: 'data' is of the type int"),
        ("s.json", json.dumps(broken(lambda p: p.pop("context"))),
         "s.json, data 1, paragraphs 1: 'context' is missing"),
        ("s.json", json.dumps(broken(lambda p: p["qas"][1].pop("question"))),
         "s.json, data 1, paragraphs 1, qas 2: 'question' is missing"),
        ("s.json", json.dumps(broken(lambda p: p["qas"][0]["answers"][2].update(text=3))),
         "qas 1, answers 3: 'text' is of the type int"),
        ("s.json", json.dumps(broken(lambda p: p["qas"][1].update(id="56ddde6b"))),
         "rows 1 and 2, column id: id '56ddde6b' appears in two rows"),
        ("n.jsonl", json.dumps({**NATURAL, "annotations": [{"short_answers": [{"start_token": 3}]}]}),
         "n.jsonl, row 1, annotations 1, short_answers 1: the span 3 to None is not in the page"),
        ("n.jsonl", json.dumps({key: NATURAL[key] for key in ("annotations", "question_text")}),
         "row 1: 'document_text' is missing"),
        ("q.csv", "id,prompt,answers\n1,How many?,two\n", "row 1, column answers: cannot read"),
        ("q.csv", "id,prompt,answer,answers\n1,How many?,two,[]\n", "a column answer and a column answers"),
        ("q.csv", "id,prompt,Answers\n1,How many?,two\n", "did you mean 'answers'"),
        ("q.csv", "id,stem\n1,How many?\n", "column 'prompt' is missing"),
        ("q.jsonl", '{"id": 1, "prompt": "p", "answers": ["a", 2]}',
         "column answers: a right answer is no text, but 2"),
        ("q.jsonl", '{"id": 1, "prompt": " "}', "row 1, column prompt: the prompt is empty"),
        ("q.csv", "id,prompt\n", "no rows"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place(name, content, told, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as raised:
        OpenQuestions.read(tmp_path / name)
    assert told in str(raised.value)
