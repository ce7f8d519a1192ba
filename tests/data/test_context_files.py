"""Questions and contexts in files of any size: written, joined from parts, and read a few at a time."""

import dataclasses
import datetime
import random
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest
from question_tables import ROWS

from kaggle_rag.data.context_files import ContextStream, join_contexts
from kaggle_rag.data.contexts import (
    Context,
    Evidence,
    QuestionContexts,
    Snippet,
    read_contexts,
    read_notes,
    write_contexts,
)
from kaggle_rag.data.question_files import read_written, write_questions
from kaggle_rag.data.questions import Questions
from kaggle_rag.runtime.errors import ArtifactError, InputError

COUNT = 23
IDS = {
    "numbers": range(COUNT),
    "texts": [f"00{n}" for n in range(COUNT)],
    # Of a part of them alone, each would have its own type.
    "of two types": [*range(10), *(f"x{n}" for n in range(10, COUNT))],
    "large": [10**20 + n for n in range(COUNT)],
    "days": [datetime.date(2026, 1, 1 + n) for n in range(COUNT)],
}


def table(ids):
    rows = [{**ROWS[n % 3], "id": key, "prompt": f"{ROWS[n % 3]['prompt']} {n}"} for n, key in enumerate(ids)]
    for row in rows[::2]:
        row["answer"] = "A"
    return Questions.from_rows(rows, "test")


def found(questions, per="question"):
    """A context for every question, or for each of its options."""

    def context(text):
        evidence = Evidence("7", "Title", 3, text, 0.5, "all", 0.9, "bm25")
        return Context((Snippet("Title", text, 0.9, (3,)),), (evidence, evidence._replace(row=4)))

    if per == "question":
        return [QuestionContexts(context(prompt), ()) for prompt in questions.prompts]
    return [
        QuestionContexts(None, tuple(option and context(option) for option in options))
        for options in questions.options
    ]


@pytest.mark.parametrize("ids", IDS)
def test_questions_that_were_written_are_read_as_they_were(ids, tmp_path):
    questions = table(IDS[ids])
    write_questions(tmp_path / "q.parquet", questions)
    again = read_written(tmp_path / "q.parquet")
    for field in dataclasses.fields(Questions):
        own, read = getattr(questions, field.name), getattr(again, field.name)
        if field.name == "ids":
            assert list(map(str, own)) == list(map(str, read))
        else:
            assert np.array_equal(own, read) if isinstance(own, np.ndarray) else own == read, field.name
    assert again.fingerprints() == questions.fingerprints()


def test_questions_without_options_are_read_as_they_were(tmp_path):
    rows = [{"id": n, "prompt": f"what {n}?", "context": None if n % 2 else f"{n} it is"} for n in range(4)]
    questions = Questions.open_of(rows, "test")
    write_questions(tmp_path / "q.parquet", questions)
    again = read_written(tmp_path / "q.parquet")
    assert again.width == 0 and again.contexts == questions.contexts
    assert again.fingerprints() == questions.fingerprints()


def parts_of(questions, contexts, size, folder):
    for start in range(0, len(questions), size):
        rows = range(start, min(start + size, len(questions)))
        path = folder / f"{start}.parquet"
        write_contexts(path, questions.take(rows), [contexts[row] for row in rows], {})
        yield rows, path


@pytest.mark.parametrize("per", ["question", "option"])
@pytest.mark.parametrize("ids", IDS)
def test_joined_parts_are_the_file_written_at_once(ids, per, tmp_path):
    questions = table(IDS[ids])
    contexts = found(questions, per)
    write_contexts(tmp_path / "whole.parquet", questions, contexts, {"b": 1, "a": [2]})
    parts = parts_of(questions, contexts, 5, tmp_path)
    join_contexts(tmp_path / "joined.parquet", questions, parts, {"b": 1, "a": [2]})
    assert pq.read_table(tmp_path / "joined.parquet").equals(pq.read_table(tmp_path / "whole.parquet"))
    assert read_notes(tmp_path / "joined.parquet") == {"b": 1, "a": [2]}
    assert read_contexts(tmp_path / "joined.parquet", questions) == contexts


def test_large_files_are_joined_in_groups_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("kaggle_rag.data.context_files._GROUP", 8)
    questions = table(range(COUNT))
    contexts = found(questions)
    join_contexts(tmp_path / "c.parquet", questions, parts_of(questions, contexts, 5, tmp_path), {})
    groups = pq.ParquetFile(tmp_path / "c.parquet").metadata
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [8, 8, 7]
    assert read_contexts(tmp_path / "c.parquet", questions) == contexts


def test_a_part_of_other_questions_leaves_no_file(tmp_path):
    questions = table(range(COUNT))
    parts = [*parts_of(questions, found(questions), 5, tmp_path)]
    parts[1] = parts[1][0], parts[2][1]
    with pytest.raises(ArtifactError, match="of other questions, or damaged"):
        join_contexts(tmp_path / "c.parquet", questions, parts, {})
    short = questions.take(range(3))
    write_contexts(tmp_path / "0.parquet", short, found(short), {})
    with pytest.raises(ArtifactError, match="no context for the question '3'"):
        join_contexts(tmp_path / "c.parquet", questions, parts, {})
    assert not (tmp_path / "c.parquet").exists() and not [*tmp_path.glob(".*")]


@pytest.mark.parametrize("per", ["question", "option"])
@pytest.mark.parametrize("order", ["own", "shuffled"])
def test_a_stream_gives_what_reading_the_whole_file_gives(order, per, tmp_path):
    """Among contexts of further questions, in any order of the questions."""
    everything = table(range(COUNT))
    written = [*range(COUNT)]
    if order == "shuffled":
        random.Random(0).shuffle(written)
    path, all_of_them = tmp_path / "c.parquet", found(everything, per)
    write_contexts(path, everything.take(written), [all_of_them[row] for row in written], {})
    questions = everything.take([row for row in range(COUNT) if row % 4])
    stream, whole = ContextStream(path, questions, 4), read_contexts(path, questions)
    spans = [*stream.spans()]
    assert [span.start for span in spans] == [0, 4, 8, 12, 16]
    assert np.concatenate([span.rows for span in spans]).tolist() == stream.order.tolist()
    assert sorted(stream.order) == [*range(len(questions))]
    if order == "own":
        assert stream.order.tolist() == sorted(stream.order)
    for span in spans:
        assert span.contexts == [whole[row] for row in span.rows]
    rest = [*stream.spans(skip={0, 8})]
    assert [span.start for span in rest] == [4, 12, 16]
    assert [span.contexts for span in rest] == [spans[n].contexts for n in (1, 3, 4)]


def test_a_stream_of_more_questions_needs_no_more_memory(tmp_path):
    path = tmp_path / "c.parquet"

    def peaks(count):
        """Bytes in Python's memory at the peak of a stream, and of reading the whole file."""
        questions = table(range(count))
        write_contexts(path, questions, found(questions), {})
        stream = ContextStream(path, questions, 50)
        tracemalloc.start()
        try:
            for _ in stream.spans():
                pass
            streamed = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            assert len(read_contexts(path, questions)) == count
            return streamed, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    (few, few_read), (many, many_read) = peaks(600), peaks(2_400)
    assert many < 1.3 * few and many_read > 2 * few_read


def test_a_stream_refuses_what_reading_the_file_refuses(tmp_path):
    questions, path = table(range(COUNT)), tmp_path / "c.parquet"
    contexts = found(questions)
    write_contexts(path, questions.take(range(20)), contexts[:20], {})
    with pytest.raises(ArtifactError, match="no context for the question '20'"):
        ContextStream(path, questions, 4)
    other = dataclasses.replace(questions, prompts=("another", *questions.prompts[1:]))
    with pytest.raises(ArtifactError, match="another question with the id '0'"):
        [*ContextStream(path, other.take(range(20)), 4).spans()]
    twice = [*range(COUNT), 5]
    write_contexts(path, questions.take(twice), [contexts[row] for row in twice], {})
    with pytest.raises(InputError, match="two rows for the question '5'"):
        [*ContextStream(path, questions, 4).spans()]
    write_questions(path, questions)
    with pytest.raises(InputError, match="column 'evidence' is missing"):
        ContextStream(path, questions, 4)
