"""Submissions are judged as a scorer would, and those of the kit's own writer pass."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.notebook.rehearsal.judge import judge
from inference.notebook.rehearsal.verdict import ErrorClass
from kaggle_rag.data.submission import top_letters, write_submission

IDS = ["7", "x-1", "003"]
SOUND = "id,prediction\n7,A B C\nx-1,E\n003,D A\n"


def judged(tmp_path, text, top=3):
    path = tmp_path / "submission.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return judge(path, IDS, "ABCDE", top)


@pytest.mark.parametrize(
    "text",
    [
        SOUND,
        "id,prediction\n003,D A\n7,A B C\nx-1,E\n",
        SOUND.replace("\n", "\r\n"),
        "\ufeff" + SOUND,
        "prediction,id\nA,7\nB,x-1\nC,003\n",
        'id,prediction\n"7","A B C"\n"x-1",E\n003,"D A"',
        SOUND + "\n",
    ],
)
def test_what_a_scorer_reads_passes(tmp_path, text):
    assert judged(tmp_path, text) is None


SCORING, FORMAT = ErrorClass.SCORING, ErrorClass.FORMAT


@pytest.mark.parametrize(
    "text, error, said",
    [
        # The planted ones.
        (SOUND.replace("x-1", "x-2"), SCORING, "1 id is not in the test set, the first is 'x-2'"),
        (SOUND.replace("x-1,E\n", ""), SCORING, "1 of 3 questions have no row, the first is 'x-1'"),
        (SOUND.replace("D A", ""), SCORING, "the prediction is empty ('')"),
        (SOUND.replace("D A", "nan"), SCORING, "the prediction is empty ('nan')"),
        (SOUND.replace("A B C", "A B C D"), SCORING, "4 letters, and the competition takes 3"),
        # Ids that pandas made numbers, and a row twice.
        (SOUND.replace("003", "3"), SCORING, "the first is '3'"),
        (SOUND.replace("7,", "7.0,"), SCORING, "the first is '7.0'"),
        (SOUND + "7,A\n", SCORING, "1 id has two rows, the first is '7'"),
        (SOUND.replace("D A", "D D"), SCORING, "a letter is repeated in 'D D'"),
        (SOUND.replace("D A", "F"), SCORING, "'F' is no option"),
        (SOUND.replace("D A", "DA"), SCORING, "'DA' is no option"),
        (SOUND.replace("D A", "d"), SCORING, "'d' is no option"),
        ("id,prediction,score\n7,A,1\nx-1,B,1\n003,C,1\n", SCORING, "3 columns (id, prediction, score)"),
        (",id,prediction\n0,7,A\n1,x-1,B\n2,003,C\n", SCORING, "3 columns"),
        ("id,answer\n7,A\n", FORMAT, "no column 'prediction'; found 'id, answer'"),
        ("", FORMAT, "the file is empty"),
        ("\n\n", FORMAT, "the file is empty"),
        (SOUND.replace("x-1,E", "x-1,E,F"), FORMAT, "3 cells, and 2 columns"),
        (SOUND.encode("utf-16"), FORMAT, "not in UTF-8"),
        ('id,prediction\n7,"A\n', FORMAT, "not CSV"),
    ],
)
def test_what_a_scorer_refuses_has_its_class_and_a_cure(tmp_path, text, error, said):
    fault = judged(tmp_path, text)
    assert fault.error is error and said in fault.cause and fault.cure
    assert fault.where.startswith("submission.csv")


def test_a_competition_may_take_more_letters(tmp_path):
    text = SOUND.replace("A B C", "A B C D")
    assert judged(tmp_path, text, top=4) is None
    assert "--top 4" in judged(tmp_path, text).cure
    assert "takes 1" in judged(tmp_path, SOUND, top=1).cause


KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6).filter(str.strip)


@settings(max_examples=40)
@given(keys=st.lists(KEYS, min_size=1, max_size=8, unique_by=str.strip), seed=st.integers(0, 99))
def test_whatever_the_kit_writes_passes(tmp_path, keys, seed):
    path = tmp_path / "submission.csv"
    table = np.random.default_rng(seed).random((len(keys), 5))
    write_submission(path, keys, top_letters(table, np.ones(table.shape, bool)))
    assert judge(path, keys, "ABCDE", 3) is None


ROWS = st.text(max_size=80).map(lambda text: b"id,prediction\n" + text.encode("utf-8", "replace"))


@settings(max_examples=40)
@given(st.one_of(st.binary(max_size=80), ROWS))
def test_any_file_is_judged(tmp_path, data):
    path = tmp_path / "submission.csv"
    path.write_bytes(data)
    fault = judge(path, IDS, "ABCDE", 3)
    assert fault is None or fault.error in (SCORING, FORMAT)
