from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from question_tables import questions, ranker, table

from kaggle_rag.evaluation import difficulty
from kaggle_rag.evaluation.difficulty import Suspect, read_suspects, sample_weights, write_suspects
from kaggle_rag.evaluation.duplicates import find_duplicates
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError

MOON = "Which moon of Saturn has a dense atmosphere?"
QUESTIONS = table(
    (MOON, ["Titan", "Rhea"], 0),
    (MOON, ["Titan", "Rhea"], 1),
    ("What do honey bees gather?", ["nectar", "iron"], 0),
    ("What do honey bees gather?", ["nectar", "iron"], 0),
)


def test_information_by_hand():
    # From 1/4 to 1/2 is one bit, from 1/2 to 1/4 minus one, and a floor of 1e-4 bounds the loss.
    seen = [[0.5, 0.5], [0.25, 0.75], [0.0, 1.0]]
    blind = [[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]]
    bits = difficulty.pointwise_information(seen, blind, np.zeros(3, np.int64))
    assert bits == pytest.approx([1, -1, np.log2(1e-4)])


def test_its_mean_is_the_mutual_information_that_a_model_can_use():
    """A binary symmetric channel with error 0.11 carries 1 - H(0.11) bits."""
    rng = np.random.default_rng(0)
    right = rng.integers(0, 2, 50_000)
    heard = np.where(rng.random(50_000) < 0.11, 1 - right, right)
    seen = np.where(np.arange(2) == heard[:, None], 0.89, 0.11)
    bits = difficulty.pointwise_information(seen, np.full((50_000, 2), 0.5), right)
    assert bits.mean() == pytest.approx(1 + 0.11 * np.log2(0.11) + 0.89 * np.log2(0.89), abs=0.01)


def planted(count=2000, share=0.1):
    """Questions of five exchangeable options, a tenth with a wrong label, and a good model's table."""
    truth, present = questions(count)
    rng = np.random.default_rng(1)
    wrong = rng.random(count) < share
    labels = np.where(wrong, (truth + rng.integers(1, 5, count)) % 5, truth)
    return ranker(truth, 4.0, 2), labels, present, wrong


def test_planted_label_errors_are_found():
    probabilities, labels, present, wrong = planted()
    rows = difficulty.label_errors(probabilities, labels, present)
    assert wrong[rows].mean() > 0.85
    assert np.isin(np.flatnonzero(wrong), rows).mean() > 0.6
    margins = difficulty.normalised_margin(probabilities, labels, present)[rows]
    assert (np.diff(margins) >= 0).all() and margins.max() < 0.5


def test_scores_and_rows_are_those_of_cleanlab_where_letters_mean_nothing():
    rank = pytest.importorskip("cleanlab.rank")
    filters = pytest.importorskip("cleanlab.filter")
    probabilities, labels, present, _ = planted()
    for ours, method in (
        (difficulty.self_confidence(probabilities, labels), "self_confidence"),
        (difficulty.normalised_margin(probabilities, labels, present), "normalized_margin"),
    ):
        theirs = rank.get_label_quality_scores(labels, probabilities, method=method)
        assert ours == pytest.approx(theirs, abs=1e-6)
    theirs = filters.find_label_issues(labels, probabilities, filter_by="confident_learning")
    ours = np.isin(np.arange(len(labels)), difficulty.label_errors(probabilities, labels, present))
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.9


def test_each_count_of_options_has_its_own_threshold():
    """Two options give the right one 0.6 at the least, five never: one mean would clear all of those."""
    two, five = [0.4, 0.6, 0, 0, 0], [0.15, 0.4, 0.15, 0.15, 0.15]
    good2, good5 = [0.9, 0.1, 0, 0, 0], [0.4, 0.15, 0.15, 0.15, 0.15]
    probabilities = np.array([two] + [good2] * 50 + [five] + [good5] * 50)
    present = probabilities > 0
    rows = difficulty.label_errors(probabilities, np.zeros(102, np.int64), present)
    assert rows.tolist() == [51]


def test_the_diagnosis_of_a_hand_made_table():
    seen = np.zeros((4, 5))
    seen[:, :2] = [[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.8, 0.2]]
    found = difficulty.diagnose(QUESTIONS, seen, np.full((4, 5), 0.5), find_duplicates(QUESTIONS))
    assert [(s.row, s.reason) for s in found] == [
        (1, "label"), (2, "label"), (0, "contradiction"), (1, "contradiction"), (3, "duplicate"),
        (1, "hard"), (2, "hard"),
    ]  # fmt: skip
    assert found[0].detail == "labelled B, the model says A" and found[0].score == pytest.approx(0.1)
    assert found[4].detail.endswith(": q2")
    assert found[5].score == pytest.approx(np.log2(0.1 / 0.5))
    assert difficulty.diagnose(QUESTIONS) == []


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_list_is_read_as_it_was_written(tmp_path, ending):
    path = tmp_path / f"list{ending}"
    found = difficulty.diagnose(QUESTIONS, None, None, find_duplicates(QUESTIONS))
    write_suspects(path, QUESTIONS, found)
    assert read_suspects(path, QUESTIONS) == found
    write_suspects(path, QUESTIONS, [])
    if ending == ".parquet":
        assert read_suspects(path, QUESTIONS) == []


def test_a_list_by_hand_needs_two_columns_and_the_right_questions(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("id,reason\nq2,label\n")
    assert read_suspects(path, QUESTIONS) == [Suspect(2, "label", 0.0, "")]
    for text, error, message in (
        ("id,reason\nq9,label\n", ArtifactError, "no such question with the id 'q9'"),
        ("id,question,reason\nq1,0123,label\n", ArtifactError, "no such question"),
        ("id,reason\nq1,ugly\n", InputError, "one of label, contradiction, duplicate, hard"),
        ("id,reason,score\nq1,label,much\n", InputError, "row 1: the score 'much'"),
        ("id\nq1\n", InputError, "no reason is given"),
    ):
        path.write_text(text)
        with pytest.raises(error, match=message):
            read_suspects(path, QUESTIONS)
    with pytest.raises(ConfigError, match=r"\.csv or \.parquet"):
        write_suspects(tmp_path / "list.txt", QUESTIONS, [])


@given(st.text(max_size=60))
@settings(max_examples=60)
def test_any_list_is_read_or_refused_by_one_message(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("lists") / "list.csv"
    path.write_text("id,reason,score\n" + text, encoding="utf-8", errors="replace")
    found = []
    with suppress(InputError, ArtifactError):
        found = read_suspects(path, QUESTIONS)
    assert all(0 <= suspect.row < len(QUESTIONS) for suspect in found)


def test_one_setting_drops_or_weighs_down():
    found = [Suspect(1, "label", 0.1, ""), Suspect(2, "duplicate", 1, ""), Suspect(3, "hard", -1, "")]
    assert sample_weights(4, found).tolist() == [1, 0, 1, 1]
    assert sample_weights(4, found, 0.3, ("duplicate", "hard")).tolist() == [1, 1, 0.3, 0.3]
    for weight, reasons in ((2, ("label",)), (0.5, ("ugly",))):
        with pytest.raises(ConfigError, match="a weight from 0 to 1"):
            sample_weights(4, found, weight, reasons)


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="for 3 answers"):
        difficulty.self_confidence(np.ones((2, 2)), np.zeros(3, np.int64))
    with pytest.raises(InputError, match=r"shape \(2, 2\)"):
        difficulty.label_errors(np.ones((2, 2)), np.zeros(2, np.int64), np.ones((2, 3), bool))
    with pytest.raises(InputError, match="have no answer"):
        difficulty.self_confidence(np.ones((2, 2)), np.array([0, -1]))
