"""Selection by the command line: what is chosen, left out and listed, and what cannot be."""

import csv
import json
import random
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crossval_toys import write_rows

from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.data_maps import dynamics, write_data_map
from kaggle_rag.evaluation.difficulty import read_suspects
from kaggle_rag.runtime.errors import run_program
from training.__main__ import main

METALS = ["iron", "copper", "gold", "zinc", "lead", "tin", "silver", "nickel", "cobalt", "chrome"]
BIRDS = ["heron", "finch", "robin", "eagle", "stork", "crane", "raven", "goose", "swift", "wren"]


def question(key, prompt, right, wrong, **more):
    return {"id": key, "prompt": prompt, "A": right, "B": wrong, "answer": "A", "source": f"of {key}", **more}


def own(key):
    """Words that no other question has: without them, they would all be near-duplicates."""
    rng = random.Random(key)
    return " ".join("".join(rng.choices("bcdfgklmnprst", k=6)) for _ in range(5))


def metals(count=10):
    return [
        question(
            f"m{n}",
            f"At how many degrees does {name} melt in the furnace of {own(name)}?",
            f"{n}00",
            f"{n}50",
        )
        for n, name in enumerate(METALS[:count])
    ]


def birds(count=10):
    return [
        question(
            f"b{n}",
            f"Where does the {name} build her nest in the land of {own(name)}?",
            f"{name} cliff",
            f"{name} roof",
        )
        for n, name in enumerate(BIRDS[:count])
    ]


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["training", "select", *map(str, words)])
    return run_program(main)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def pool(tmp_path):
    """Two tables; bird 9 is in both, and the second calls another option right."""
    again = birds()[9] | {"answer": "B", "id": "again"}
    return write_rows(tmp_path / "one.csv", [*metals(), *birds()[:5]]), write_rows(
        tmp_path / "two.csv", [*birds()[5:], again]
    )


@pytest.fixture
def topics(tmp_path):
    path = tmp_path / "topics.txt"
    path.write_text("Where does a bird build her nest?\n\nthe cliff of the heron and the roof of the finch\n")
    return path


@pytest.mark.parametrize("how", ["round-robin", "rrf", "best", "mean"])
@pytest.mark.parametrize("by", ["vectors", "words"])
def test_what_the_sentences_ask_is_chosen(how, by, pool, topics, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out" / "chosen.csv"
    words = [*pool, "--specifications", topics, "--budget", 10, "--how", how, "--by", by, "--out", out]
    assert run(monkeypatch, *words) == 0
    chosen, why = read(out), read(out.with_name("chosen.why.csv"))
    assert {row["id"] for row in chosen} == {f"one/b{n}" for n in range(5)} | {
        f"two/b{n}" for n in range(5, 10)
    }
    assert [row["id"] for row in why] == [row["id"] for row in chosen]
    assert {row["chosen_by"] for row in why} <= {"topics:1", "topics:3"}
    assert all(row["set"] == row["id"].split("/")[0] and float(row["score"]) > 0 for row in why)
    # All columns of the tables, also those that are none of a question.
    assert list(chosen[0]) == ["id", "prompt", "A", "B", "answer", "source"]
    assert all(row["source"] == "of " + row["id"].split("/")[1] for row in chosen)
    assert sorted(path.name for path in out.parent.iterdir()) == ["chosen.csv", "chosen.why.csv"]
    assert ["two", "6", "5", "5"] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_the_same_command_chooses_the_same_and_turns_depend_on_the_seed(pool, topics, tmp_path, monkeypatch):
    found = []
    for name, seed, how in [
        ("a", 0, "round-robin"), ("b", 0, "round-robin"),
        ("c", 0, "random"), ("d", 0, "random"), ("e", 1, "random"),
    ]:  # fmt: skip
        out = tmp_path / f"{name}.csv"
        words = ["--budget", 6, "--seed", seed, "--how", how, "--out", out]
        assert run(monkeypatch, *pool, "--specifications", topics, *words) == 0
        found.append(out.read_bytes() + out.with_name(f"{name}.why.csv").read_bytes())
    assert found[0] == found[1] and found[2] == found[3] != found[4]


def test_copies_of_examples_and_of_excluded_questions_are_left_out(pool, tmp_path, monkeypatch, capsys):
    """An example with another answer than its copy is listed, and what two sets label differently."""
    examples = write_rows(
        tmp_path / "examples.csv", [birds()[0] | {"id": "e0", "answer": "B"}, birds()[1] | {"id": "e1"}]
    )
    excluded = write_rows(tmp_path / "dev.csv", [metals()[3] | {"id": "x"}])
    out = tmp_path / "chosen.csv"
    words = [*pool, "--specifications", examples, "--exclude", excluded, "--share", 1.0, "--out", out]
    assert run(monkeypatch, *words, "--suspects", tmp_path / "s.csv", "--json", "--how", "random") == 0
    told = json.loads(capsys.readouterr().out)
    ids = {row["id"] for row in read(out)}
    assert len(ids) == 17 and not ids & {"one/b0", "one/b1", "one/m3", "two/again"}
    assert told["left out"] == {"repeat other files": 3, "repeat others": 1}
    (against,) = told["labels that contradict a specification"]
    assert (against["id"], against["other_id"], against["reason"]) == ("one/b0", "examples/e0", "same")
    (within,) = told["labels that contradict another question of the pool"]
    assert {within["id"], within["other_id"]} == {"two/b9", "two/again"}
    # What a training is told to drop: the one that was selected.
    (suspect,) = read_suspects(tmp_path / "s.csv", Questions.read(out))
    assert (read(out)[suspect.row]["id"], suspect.reason) == ("two/b9", "contradiction")


def test_every_copy_of_a_question_but_one_is_left_out(topics, tmp_path, monkeypatch, capsys):
    swapped = birds()[2] | {"A": birds()[2]["B"], "B": birds()[2]["A"], "answer": "B", "id": "swapped"}
    table = write_rows(tmp_path / "t.csv", [*birds(4), birds()[2] | {"id": "same"}, swapped, *metals(2)])
    out = tmp_path / "o.csv"
    assert run(monkeypatch, table, "--specifications", topics, "--share", 1, "--least", -1, "--out", out) == 0
    # One table: its ids are as they were, so that its contexts file still serves.
    assert {row["id"] for row in read(out)} == {"b0", "b1", "b2", "b3", "m0", "m1"}
    assert "0 that repeat a specification or an excluded question, 2 that repeat" in capsys.readouterr().out


def test_a_dry_run_writes_nothing(pool, topics, tmp_path, monkeypatch, capsys):
    before = sorted(tmp_path.iterdir())
    words = [*pool, "--specifications", topics, "--budget", 10, "--out", tmp_path / "new" / "o.csv"]
    assert run(monkeypatch, *words, "--dry-run") == 0
    assert "10 would be selected, in about" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def mapped(tmp_path):
    """A table and its map: later ones are more certain, and the first and last change most."""
    table = write_rows(tmp_path / "t.csv", metals())
    likely = [[(n + 1) / 20 for n in range(10)], [(n + 1) / 20 for n in range(10)]]
    for n, change in ((0, 0.04), (9, 0.2), (4, 0.03)):
        likely[0][n] += change
        likely[1][n] -= change
    # One question was held out.
    likely[0][7] = likely[1][7] = float("nan")
    path = tmp_path / "map.parquet"
    write_data_map(path, Questions.read(table), dynamics(likely, [[0] * 10] * 2))
    return table, path


@pytest.mark.parametrize(
    "keep, expected",
    [("ambiguous", ["m9", "m0", "m4"]), ("hard", ["m0", "m1", "m2"]), ("easy", ["m9", "m8", "m6"])],
)
def test_a_share_of_a_data_map_is_selected(keep, expected, mapped, tmp_path, monkeypatch):
    table, path = mapped
    # A third of the nine that it has.
    words = ["--data-map", path, "--keep", keep, "--share", 0.33, "--out", tmp_path / "o.csv"]
    assert run(monkeypatch, table, *words) == 0
    assert [row["id"] for row in read(tmp_path / "o.csv")] == expected
    why = read(tmp_path / "o.why.csv")
    assert {row["chosen_by"] for row in why} == {keep}
    assert float(why[0]["score"]) == pytest.approx(
        {"ambiguous": 0.2, "hard": 0.05, "easy": 0.5}[keep], abs=1e-6
    )


def unlike(folder):
    return write_rows(folder / "three.csv", [{k: v for k, v in metals()[0].items() if k != "source"}])


def other_map(folder):
    path = folder / "other.parquet"
    table = Questions.read(write_rows(folder / "others.csv", birds(3)))
    write_data_map(path, table, dynamics([[0.5] * 3] * 2, [[0] * 3] * 2))
    return path


def still_map(folder, words):
    """A map of one epoch, in which nothing can vary."""
    path = folder / "still.parquet"
    table = Questions.read(words[0])
    write_data_map(path, table, dynamics([[0.5] * len(table)], [[0] * len(table)]))
    return path


def text(folder, content):
    (folder / "spec.txt").write_text(content)
    return folder / "spec.txt"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w, f: [*w, "--budget", 99], "the budget is 99, and 20 questions may be selected"),
        (lambda w, f: [*w, "--least", "99"], "topics:1 matches no question of the pool: its best score is"),
        (lambda w, f: [*w, "--specifications", text(f, "xylophone")], "spec:1 matches no question"),
        (lambda w, f: [*w, "--specifications", text(f, "birds\n...")], "specification without a word: '...'"),
        (lambda w, f: [*w, "--specifications", text(f, "\n \n")], "spec.txt: the file is empty"),
        (lambda w, f: [*w, "--specifications", f / "no.txt"], "no.txt: no such file"),
        (lambda w, f: [*w, "--specifications", text(f, "heron nest"), "--budget", 20], "match 10 questions"),
        (
            lambda w, f: [*w, "--specifications", text(f, "heron nest"), "--budget", 20, "--how", "mean"],
            "match 10 questions",
        ),
        (lambda w, f: [unlike(f), *w], "column 'source' is not in"),
        (lambda w, f: [w[0], *w], "two tables are called 'one'"),
        (lambda w, f: [*w, "--out", w[0]], "a file already exists"),
        (lambda w, f: [*w, "--out", f / "o.parquet"], "cannot write a table as '.parquet'"),
        (lambda w, f: [*w, "--suspects", f / "new/o.csv"], "two files of one name"),
        (lambda w, f: [*w, "--suspects", f / "x/../new/o.csv"], "two files of one name"),
        (lambda w, f: [*w, "--suspects", f / "new/o.why.csv"], "two files of one name"),
        (lambda w, f: [*w, "--least", "nan"], "not a number: nan"),
        (
            lambda w, f: [w[0], *w[4:], "--data-map", still_map(f, w), "--keep", "ambiguous"],
            "no question ever changed",
        ),
        (lambda w, f: [*w, "--suspects", f / "s.txt"], "cannot write a table as '.txt'"),
        (lambda w, f: [*w, "--data-map", other_map(f), "--keep", "hard"], "choose one way to select"),
        (lambda w, f: [*w[:2], *w[4:], "--data-map", other_map(f)], "choose one way to select"),
        (
            lambda w, f: [*w[:2], *w[4:], "--data-map", other_map(f), "--keep", "hard"],
            "a data map of other questions: 3 of its 3 are not among these",
        ),
        (lambda w, f: [*w[:4], "--share", "0", *w[6:]], "how many questions?"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_message_and_nothing_is_written(
    change, message, pool, topics, tmp_path, monkeypatch, capsys
):
    words = [*pool, "--specifications", topics, "--budget", 3, "--by", "words"]
    words = change([*words, "--out", tmp_path / "new/o.csv"], tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run(monkeypatch, *words) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("error:") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "words, idle",
    [
        (["--how", "best", "--seed", 4], ["seed"]),
        (["--how", "random", "--seed", 4, "--least", 0.2, "--device", "cpu"], ["by", "least", "device"]),
        (["--how", "round-robin", "--seed", 4, "--encoder", "x"], ["encoder"]),
    ],
)
def test_flags_without_effect_are_told(words, idle, pool, topics, tmp_path, monkeypatch, capsys):
    flags = ["--specifications", topics, "--budget", 3, "--by", "words", "--out", tmp_path / "o.csv"]
    assert run(monkeypatch, *pool, *flags, *words) == 0
    said = capsys.readouterr().err
    assert [line.split()[1] for line in said.splitlines() if "has no effect" in line] == [
        f"--{name}" for name in idle
    ]


def test_a_data_map_needs_no_ranking(mapped, tmp_path, monkeypatch, capsys):
    table, path = mapped
    words = ["--data-map", path, "--keep", "hard", "--budget", 2, "--out", tmp_path / "o.csv"]
    assert run(monkeypatch, table, *words, "--how", "mean", "--encoder", "x", "--seed", 4) == 0
    said = capsys.readouterr().err
    assert all(f"note: --{name} has no effect with --data-map" in said for name in ("how", "encoder", "seed"))
    assert said.count("has no effect") == 3


def test_a_random_draw_has_no_scores_and_covers_nothing(pool, topics, tmp_path, monkeypatch, capsys):
    flags = [*pool, "--specifications", topics, "--budget", 3, "--how", "random", "--out"]
    assert run(monkeypatch, *flags, tmp_path / "o.csv") == 0
    said = capsys.readouterr().out
    assert "3 selected, at random" in said and "nan" not in said and "chose" not in said
    assert run(monkeypatch, *flags, tmp_path / "p.csv", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["scores"] == [] and told["specifications that chose"] == 0


@pytest.mark.parametrize("seed", ["-1", "1.5", "x"])
def test_a_seed_that_is_none_is_told(seed, pool, topics, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, *pool, "--specifications", topics, "--budget", 3, "--out", "o.csv", f"--seed={seed}")
    assert f"'{seed}' is not a seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, message",
    [
        ({"confidence": float("nan")}, "row 1, column confidence: nan is not between 0 and 1"),
        ({"variability": -0.1}, "column variability: -0.1 is not between 0 and 1"),
        ({"correctness": 7.0}, "column correctness: 7.0 is not between 0 and 1"),
        ({"epochs": -2}, "column epochs: -2.0 is not a number of epochs"),
    ],
)
def test_a_damaged_data_map_is_refused(change, message, mapped, tmp_path, monkeypatch, capsys):
    table, path = mapped
    rows = pq.read_table(path).to_pylist()
    pq.write_table(pa.Table.from_pylist([{**row, **change} for row in rows]), tmp_path / "map.parquet")
    words = ["--data-map", tmp_path / "map.parquet", "--keep", "hard", "--budget", 1]
    assert run(monkeypatch, table, *words, "--out", tmp_path / "o.csv") == 2
    assert message in capsys.readouterr().err and not (tmp_path / "o.csv").exists()


def test_questions_without_answers_teach_nothing(topics, tmp_path, monkeypatch, capsys):
    table = write_rows(tmp_path / "t.csv", [*metals(2), birds()[0] | {"answer": ""}])
    assert (
        run(monkeypatch, table, "--specifications", topics, "--budget", 1, "--out", tmp_path / "o.csv") == 2
    )
    assert "t.csv, row 3: 1 of 3 questions have no answer" in capsys.readouterr().err
