"""Several question sets as one: how many of each, which are left out, and that contexts stay with them."""

import csv
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranker_toys import files, rows

from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.fold_table import articles_of
from kaggle_rag.runtime.errors import run_program
from training.__main__ import main
from training.rankers.mix import shares


@given(
    st.lists(st.integers(1, 5000), min_size=1, max_size=6), st.floats(0, 2),
    st.one_of(st.none(), st.integers(1, 20_000)),
)  # fmt: skip
def test_shares_are_all_that_may_be_taken_and_no_set_gives_more_than_it_has(sizes, temperature, most):
    found = shares(sizes, temperature, most)
    assert sum(found) == min(most or sum(sizes), sum(sizes))
    assert all(0 <= count <= size for count, size in zip(found, sizes))


def test_shares_of_hand_worked_sets():
    assert shares([900, 100], 1.0, 100) == [90, 10]
    assert shares([900, 100], 0.5, 100) == [75, 25]
    assert shares([900, 100], 0.0, 100) == [50, 50]
    # The small one is used up; the rest comes from the others, 400 ** .5 : 900 ** .5 as 2 : 3.
    assert shares([900, 400, 10], 0.0, 310) == [150, 150, 10]
    assert shares([900, 400, 100], 0.5, None) == [900, 400, 100]
    assert shares([5, 3], 0.5, 1) == [1, 0]


@pytest.fixture
def sets(tmp_path):
    """Two sets; the second holds two of the first, and one is in a file that is judged by."""
    made = [row | {"prompt": f"which of all words is number {n}"} for n, row in enumerate(rows(30, 0))]
    first, first_contexts = files(tmp_path, "first", made[:20])
    second, second_contexts = files(tmp_path, "second", made[18:])
    judged, _ = files(tmp_path, "judged", made[3:4])
    return made, [first, second], [first_contexts, second_contexts], judged


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["training", "mix", *map(str, words)])
    return run_program(main)


def test_what_repeats_another_is_left_out_and_contexts_stay_with_their_questions(
    sets, tmp_path, monkeypatch, capsys
):
    made, tables, contexts, judged = sets
    out, contexts_out = tmp_path / "all.csv", tmp_path / "all.parquet"
    words = [*tables, "--contexts", *contexts, "--exclude", judged, "--out", out]
    assert run(monkeypatch, *words, "--contexts-out", contexts_out) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["first", "20", "1", "19"], ["second", "12", "2", "10"],
    ]  # fmt: skip
    mixed = Questions.read(out)
    left = [number for number in range(30) if number != 3]
    assert list(mixed.prompts) == [made[number]["prompt"] for number in left]
    assert mixed.ids[0] == f"first/{made[0]['id']}" and mixed.ids[-1] == f"second/{made[29]['id']}"
    found = read_contexts(contexts_out, mixed)
    for number, each, options, answer in zip(left, found, mixed.options, mixed.answers):
        assert made[number]["context"] == each.of(0).text
        assert options[answer] == made[number][made[number]["answer"]]
    assert all(article is None or "/" in article or len(article) == 16 for article in articles_of(found))


def test_a_draw_depends_on_the_seed_alone(sets, tmp_path, monkeypatch):
    _, tables, _, _ = sets
    outs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        outs.append(tmp_path / f"{name}.csv")
        assert run(monkeypatch, *tables, "--out", outs[-1], "--most", 12, "--seed", seed) == 0
    one, same, other = (path.read_text() for path in outs)
    assert one == same != other
    names = [row["id"].split("/")[0] for row in csv.DictReader(outs[0].open())]
    # 20 and 10 by their roots: 4.47 to 3.16 of 12.
    assert np.unique(names, return_counts=True)[1].tolist() == [7, 5]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda words, folder: words[:1] * 2 + words[2:], "two sets are called 'first'"),
        (lambda words, folder: [*words, "--contexts", words[0]], "1 contexts file for 2 sets"),
        (lambda words, folder: [*words, "--most", "1"], "at least a question of each set"),
        (lambda words, folder: [*words, "--temperature", "-1"], "--temperature: out of range: -1.0"),
        (lambda words, folder: [*words, "--most", 4, "--temperature", "nan"], "out of range: nan"),
        (lambda words, folder: [*words, "--most", 4, "--temperature", "1e308"], "out of range: 1e+308"),
        (lambda words, folder: [*words, "--exclude", *words[:2]], "every question repeats one"),
        (lambda words, folder: [*words, "--contexts-out", folder / "c.parquet"], "0 contexts files for"),
        (lambda words, folder: [folder / "no.csv", *words], "no such file"),
        (lambda words, folder: [*words[:-1], words[0]], "a file already exists"),
        (lambda words, folder: [*words[:-1], folder / "all.txt"], "cannot be written as '.txt'"),
    ],
)
def test_what_does_not_fit_is_one_message_and_nothing_is_written(
    change, message, sets, tmp_path, monkeypatch, capsys
):
    _, tables, _, _ = sets
    before = sorted(path.name for path in tmp_path.iterdir())
    words = change([*tables, "--out", tmp_path / "new/all.csv"], tmp_path)
    assert run(monkeypatch, *words) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
