import json

import numpy as np
import pytest
from question_tables import altered, shuffled_words, table

from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.leaks import leak_report
from kaggle_rag.runtime.errors import ConfigError

TRAIN = table(
    ("Which moon of Saturn has a dense atmosphere?", ["Titan", "Rhea"], 0),
    ("What do honey bees gather from flowers?", ["nectar", "iron"], 0),
)


def test_a_report_names_files_rows_reasons_and_texts():
    other = table(
        ("What is the capital of France?", ["Paris", "Rome"], 0),
        ("Which moon of Saturn has a dense atmosphere?", ["Rhea", "Titan"], 0),
    )
    report = leak_report(TRAIN, {"test.csv": other, "mine.csv": other.take([0])})
    (leak,) = report.leaks
    assert (leak.file, leak.id, leak.train_id, leak.reason) == ("test.csv", "q1", "q0", "swapped")
    assert leak.contradicts and leak.text.endswith("[*Rhea | Titan]")
    assert report.repeated("test.csv") == {"q1"} and report.repeated("mine.csv") == set()
    text = report.text()
    assert "test.csv q1 = train q0" in text and "the answers contradict" in text
    assert text.splitlines()[2].split() == ["mine.csv", "1", "0", "0"]
    again = json.loads(json.dumps(report.as_json()))
    assert again["files"]["test.csv"] == {"rows": 2, "repeated": 1, "reasons": {"swapped": 1}}
    assert again["leaks"][0]["train_text"].startswith("Which moon")


def test_vectors_without_a_table_are_refused():
    with pytest.raises(ConfigError, match="without those of the training table"):
        leak_report(TRAIN, {"a": TRAIN}, vectors={"a": np.eye(2)})
    with pytest.raises(ConfigError, match="vectors of 'b'"):
        leak_report(TRAIN, {"a": TRAIN}, train_vectors=np.eye(2), vectors={"b": np.eye(2)})


def test_vectors_are_compared_where_there_are_some():
    other = table(("Saturn's satellite with thick air?", ["T", "R"], 0))
    report = leak_report(TRAIN, {"a": other}, train_vectors=np.eye(2), vectors={"a": [[1, 0.01]]})
    assert [leak.reason for leak in report.leaks] == ["vectors"]


def test_planted_leaks_in_a_real_file_are_found_and_no_others_are_made_up(shared):
    train = Questions.read(shared / "mcq/openbookqa_train.csv")
    clean = Questions.read(shared / "mcq/mmlu_stem_even.csv")
    rows = np.arange(0, 4000, 40)
    planted = altered(train, rows, shuffled_words)
    report = leak_report(train, {"planted": planted, "mmlu": clean})
    assert len(report.repeated("planted")) == len(rows)
    assert len(report.repeated("mmlu")) <= 3
