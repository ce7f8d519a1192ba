"""The contexts file: what is written is read back, what is damaged is said."""

import json
import re

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_rag.data.contexts import (
    OWN,
    Context,
    Evidence,
    QuestionContexts,
    Snippet,
    joined,
    lines_as_snippets,
    paragraphs_as_snippets,
    read_contexts,
    read_notes,
    write_contexts,
)
from kaggle_rag.data.questions import Questions
from kaggle_rag.runtime.errors import ArtifactError, InputError


def questions(*ids, **more):
    row = {"prompt": "p?", "A": "x", "B": None, "C": "y", **more}
    return Questions.from_rows([{"id": i, **row} for i in ids], "test")


def context(text, *rows):
    return Context(
        tuple(Snippet("Iron" * (n % 2), line, n / 3, (n, n + 1)) for n, line in enumerate(text.split("\n"))),
        tuple(Evidence("7", "Iron", row, f"Fact {row}.", row / 3, "all", -row / 3, "minilm") for row in rows),
    )


SHARED = QuestionContexts(context("Fact.\nÉ — 火", 3, 9), ())
SPLIT = QuestionContexts(None, (context("One.", 1), None, context("", 5, 2)))


@pytest.mark.parametrize("ids", [(1, 2), ("007", "7"), (1, "b"), (1, 2.5), (2**70, 5), (True, 3)], ids=repr)
@pytest.mark.parametrize("found", [SHARED, SPLIT], ids=["question", "option"])
def test_contexts_and_ids_of_any_type_are_read_back_as_they_were(ids, found, tmp_path):
    asked = questions(*ids)
    other = QuestionContexts(context("Other."), ()) if found is SHARED else SPLIT
    write_contexts(tmp_path / "c.parquet", asked, [found, other], {})
    assert read_contexts(tmp_path / "c.parquet", asked) == [found, other]
    assert read_contexts(tmp_path / "c.parquet", asked.take([1, 0])) == [other, found]


def test_distances_keep_all_their_digits(tmp_path):
    write_contexts(tmp_path / "c.parquet", questions(1), [SHARED], {})
    (row,) = pq.read_table(tmp_path / "c.parquet").to_pylist()
    assert [e["distance"] for e in row["evidence"]] == [1.0, 3.0] and row["option"] is None
    assert row["id"] == 1 and list(row) == ["id", "question", "option", "context", "snippets", "evidence"]
    assert row["context"] == "Fact.\nIron: É — 火"


def test_notes_are_read_back_and_a_file_without_them_has_none(tmp_path):
    notes = {"index": "a" * 64, "settings": {"keep": 20, "forms": ["all"]}}
    write_contexts(tmp_path / "c.parquet", questions(1), [SHARED], notes)
    assert read_notes(tmp_path / "c.parquet") == notes
    pq.write_table(
        pq.read_table(tmp_path / "c.parquet").replace_schema_metadata(None), tmp_path / "d.parquet"
    )
    (tmp_path / "e.parquet").write_text("no parquet")
    assert [read_notes(tmp_path / f"{name}.parquet") for name in "def"] == [None] * 3


@pytest.mark.parametrize("found", [SHARED, SPLIT], ids=["question", "option"])
def test_two_rows_for_a_question_and_none_for_one_are_refused(found, tmp_path):
    write_contexts(tmp_path / "c.parquet", questions(1), [found], {})
    with pytest.raises(ArtifactError, match=r"no context for the question '2'[\s\S]*inference contexts"):
        read_contexts(tmp_path / "c.parquet", questions(1, 2))
    write_contexts(tmp_path / "c.parquet", questions(1).take([0, 0]), [found, found], {})
    with pytest.raises(InputError, match="two rows for the question '1'"):
        read_contexts(tmp_path / "c.parquet", questions(1))


def test_a_context_for_an_option_the_question_does_not_have_is_refused(tmp_path):
    three = QuestionContexts(None, (context("One."), context("Two."), context("Three.")))
    write_contexts(tmp_path / "c.parquet", questions(1, B="z"), [three], {})
    narrow = Questions.from_rows([{"id": 1, "prompt": "p?", "A": "x", "B": "z"}], "test")
    for asked in (narrow, questions(1)):
        with pytest.raises(ArtifactError, match="option"):
            read_contexts(tmp_path / "c.parquet", asked)


@pytest.mark.parametrize("evidence", ["[]", [1], [{"row": 3}], "none"])
def test_evidence_of_another_shape_is_one_message(evidence, tmp_path):
    row = {"id": 1, "option": None, "context": "Fact.", "evidence": evidence}
    (tmp_path / "c.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match="evidence"):
        read_contexts(tmp_path / "c.jsonl", questions(1))


@pytest.mark.parametrize("column", ["id", "option", "context", "evidence"])
def test_a_missing_column_is_named(column, tmp_path):
    write_contexts(tmp_path / "c.parquet", questions(1), [SHARED], {})
    pq.write_table(pq.read_table(tmp_path / "c.parquet").drop_columns([column]), tmp_path / "d.parquet")
    with pytest.raises(InputError, match=f"'{column}' is missing"):
        read_contexts(tmp_path / "d.parquet", questions(1))


def test_evidence_of_all_options_is_each_passage_once_nearest_first():
    near = Evidence("7", "Iron", 4, "t", 0.1, "A", 0.9, "minilm")
    far = Evidence("7", "Iron", 4, "t", 0.9, "B", 0.1, "minilm")
    own = Evidence(OWN, "", 4, "o", 0.5, "B", 0.5, OWN)
    other = Evidence("8", "Gold", 6, "g", 0.3, "B", 0.7, "bm25")
    found = QuestionContexts(None, (Context((), (near,)), None, Context((), (other, own, far))))
    assert found.evidence() == [near, other, own]


def test_a_file_of_an_earlier_version_gives_its_lines_and_an_own_context_its_paragraphs(tmp_path):
    """Before there were snippets the text alone was kept, whose lines were taken for them."""
    own = Evidence(OWN, "", 0, "o", 0.5, "all", 0.5, OWN)
    text = "Iron: It rusts.\nGold shines.\n \nTin melts."
    texts = {(): lines_as_snippets(text), (own,): paragraphs_as_snippets(text)}
    for evidence, snippets in texts.items():
        found = QuestionContexts(Context(lines_as_snippets(text), evidence), ())
        write_contexts(tmp_path / "c.parquet", questions(1), [found], {})
        kept = pq.read_table(tmp_path / "c.parquet").drop_columns(["snippets"])
        pq.write_table(kept, tmp_path / "d.parquet")
        (read,) = read_contexts(tmp_path / "d.parquet", questions(1))
        assert read.shared == Context(snippets, evidence) and read.shared.text == text
    assert [str(s) for s in texts[own,]] == ["Iron: It rusts.\nGold shines.\n ", "Tin melts."]


@given(st.text(st.sampled_from("a \n\t"), max_size=12))
def test_paragraphs_joined_are_the_text_again_and_part_at_blank_lines_alone(text):
    found = paragraphs_as_snippets(text)
    assert joined(found) == text
    assert len(found) == max(1, len([p for p in re.split(r"\n(?:[ \t]*\n)+", text.strip()) if p])) or not text


def test_snippets_of_another_shape_are_one_message(tmp_path):
    row = {"id": 1, "question": questions(1).fingerprints()[0], "option": None, "context": "", "evidence": []}
    for snippets in ([{"text": "x"}], [{"title": "t", "text": None, "rows": []}], [3], "none"):
        (tmp_path / "c.jsonl").write_text(json.dumps({**row, "snippets": snippets}) + "\n")
        with pytest.raises(InputError, match="snippets"):
            read_contexts(tmp_path / "c.jsonl", questions(1))


def test_a_file_of_csv_has_empty_cells_where_others_have_null(tmp_path):
    rows = [f'"{key}",{mark},,Fact.,,' for key, mark in zip("12", questions("1", "2").fingerprints())]
    (tmp_path / "c.csv").write_text("\n".join(["id,question,option,context,snippets,evidence", *rows]) + "\n")
    read = read_contexts(tmp_path / "c.csv", questions("1", "2"))
    assert [each.shared.text for each in read] == ["Fact.", "Fact."]


@pytest.mark.parametrize("changes", [{"context": {"text": "Fact."}}, {"option": {"A": 1}}], ids=str)
def test_a_cell_that_is_no_text_is_named(changes, tmp_path):
    row = {"id": 1, "question": questions(1).fingerprints()[0], "option": None, "context": "", "evidence": []}
    (tmp_path / "c.jsonl").write_text(json.dumps({**row, **changes}) + "\n")
    with pytest.raises(InputError, match=f"c.jsonl, row 1, column {next(iter(changes))}"):
        read_contexts(tmp_path / "c.jsonl", questions(1))
