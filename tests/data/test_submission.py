import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_rag.data.probabilities import softmax
from kaggle_rag.data.submission import read_ids, read_submission, top_letters, validate, write_submission
from kaggle_rag.ensembling.blending import blend
from kaggle_rag.runtime.errors import ConfigError, InputError

IDS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1).filter(
    lambda text: text.strip() != ""
)


@given(
    ids=st.lists(IDS, unique=True, min_size=1, max_size=6),
    width=st.integers(2, 26),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=50)
def test_a_submission_round_trips(ids, width, seed, tmp_path_factory):
    rng = np.random.default_rng(seed)
    present = rng.random((len(ids), width)) < 0.7
    present[:, :2] = True
    table = softmax(rng.normal(size=present.shape), present)
    path = tmp_path_factory.mktemp("s") / "submission.csv"
    write_submission(path, ids, top_letters(table, present))
    options = [[("x" if there else None) for there in row] for row in present]
    for row, columns in zip(range(len(ids)), validate(path, ids, options)):
        best = sorted(np.flatnonzero(present[row]), key=lambda c: -table[row, c])[:3]
        assert np.allclose(table[row, columns], table[row, best])


GOOD = "id,prediction\n1,A B\n2,B A\n"
BAD = {
    "id,prediction\n1,A B\n3,A B\n": "'3'",
    "id,prediction\n1,A B\n": "1 of 2 questions have no row",
    "id,prediction\n1,A A\n2,A B\n": "repeated",
    "id,prediction\n1,A B C D\n2,A B\n": "no option C",
    "id,prediction\n1,A B\n1,A B\n": "two rows for the question '1'",
    "id,answer\n1,A B\n": "'prediction' is missing",
    "id,prediction\n1,A C\n2,A B\n": "no option C",
    "id,prediction\n1,\n2,A B\n": "cannot read",
}


@pytest.mark.parametrize("text", BAD, ids=[message.replace(" ", "-") for message in BAD.values()])
def test_a_bad_submission_is_refused(text, tmp_path):
    path = tmp_path / "s.csv"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        validate(path, ["1", "2"], [("x", "y")] * 2)
    assert BAD[text] in str(raised.value)


def test_ids_of_any_type_match_by_their_text(tmp_path):
    write_submission(tmp_path / "s.csv", [1, "007"], ["A B", "B A"])
    assert read_submission(tmp_path / "s.csv") == {"1": [0, 1], "007": [1, 0]}


def test_blending_is_the_weighted_mean_of_the_tables():
    present = np.array([[True, True, False]])
    ours, theirs = np.array([[0.9, 0.1, 0]], np.float32), np.array([[0.3, 0.7, 0]], np.float32)
    assert np.allclose(blend([ours, theirs], [3, 1], present), [[0.75, 0.25, 0]])
    # Ranks: (3 * [1, 1/2] + 1 * [1/2, 1]) / 4, scaled to sum to 1.
    expected = np.array([[3.5, 2.5, 0]]) / 6
    assert np.allclose(blend([ours, theirs], [3, 1], present, "ranks"), expected)


@pytest.mark.parametrize("weights", [[1], [-1, 2], [0, 0]])
def test_weights_that_cannot_be_are_refused(weights):
    table = np.full((1, 2), 0.5, np.float32)
    with pytest.raises(ConfigError, match="one weight per ranker"):
        blend([table, table], weights, np.ones((1, 2), bool))


@pytest.mark.parametrize("cells", ["A B C D E", "", "none yet", "0.2", "A"])
def test_of_a_sample_submission_only_the_ids_are_read(cells, tmp_path):
    (tmp_path / "sample.csv").write_text(f"id,prediction\n7,{cells}\n9,{cells}\n")
    assert read_ids(tmp_path / "sample.csv") == ["7", "9"]
    (tmp_path / "sample.jsonl").write_text('{"id": 7.0, "prediction": null}\n{"id": 9.0}\n')
    assert read_ids(tmp_path / "sample.jsonl") == ["7", "9"]


@pytest.mark.parametrize(
    "text, said",
    [
        ("ID,prediction\n1,A\n", "did you mean 'ID'"),
        ("id,prediction\n1,A\n1,B\n", "rows 1 and 2"),
        ("id,prediction\n,A\n", "id is empty"),
        ("id,prediction\n", "no rows"),
    ],
)
def test_a_sample_submission_without_good_ids_is_named(text, said, tmp_path):
    (tmp_path / "sample.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_ids(tmp_path / "sample.csv")
