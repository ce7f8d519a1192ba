"""What the way options are written tells: by hand, against a minimiser, fold by fold, in a submission."""

import json

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from question_tables import table
from scipy.optimize import minimize

from inference.__main__ import main as inference
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.questions import LETTERS, Questions
from kaggle_rag.data.submission import read_submission
from kaggle_rag.rankers.phrasing import FEATURES, PhrasingRanker, features_of, fit
from kaggle_rag.rankers.registry import make_ranker
from kaggle_rag.runtime.errors import ConfigError, InputError, run_program
from training.__main__ import main as training


def test_features_by_hand():
    asked = table(
        ("Which gas do plants take in?", ["carbon dioxide gas", "oxygen", "never 2 gas", None], 0),
        ("Name it.", ["ab", "cd"], 1),
    )
    found = dict(zip(FEATURES, np.moveaxis(features_of(asked), 2, 0)))
    logs = np.log([19, 7, 12])
    assert found["length"][0, :3] == pytest.approx(logs - logs.mean())
    assert found["longest"].tolist() == [[1, 0, 0, 0, 0], [0] * 5]
    assert found["shortest"].tolist() == [[0, 1, 0, 0, 0], [0] * 5]
    assert found["echoes"][0, :3] == pytest.approx([1 / 3, 0, 1 / 3])
    # "gas" alone is shared, by the first and the third, which have five words together.
    shared = np.array([1 / 5, 0, 1 / 5]) / 2
    assert found["alike"][0, :3] == pytest.approx(shared - shared.mean())
    assert found["absolute"][0].tolist() == found["digits"][0].tolist() == [0, 0, 1, 0, 0]
    assert not features_of(asked)[:, 3:].any()


def made(count, seed=0, bias=1.5):
    """Questions whose right option tends to be long and to hold a digit."""
    rng, rows = np.random.default_rng(seed), []
    for n in range(count):
        options = [" ".join(["word"] * rng.integers(1, 9)) + rng.choice(["", " 7"]) for _ in range(4)]
        pull = np.array([bias * np.log(len(o)) + ("7" in o) for o in options])
        likely = np.exp(pull - pull.max())
        rows.append((f"What is it, number {n}?", options, int(rng.choice(4, p=likely / likely.sum()))))
    return table(*rows)


def test_the_weights_are_those_with_the_least_penalised_log_loss():
    asked = made(150)
    features, present, names = features_of(asked), asked.present, [*FEATURES]

    def loss(weights):
        total = 0.0
        for row, answer in enumerate(asked.answers):
            logits = features[row, present[row]] @ weights
            total += np.log(np.exp(logits).sum()) - logits[answer]
        return total + 2.0 * (weights**2).sum()

    # Without its slope, which `fit` has by a formula.
    expected = minimize(loss, np.zeros(len(names)), method="Powell", options={"xtol": 1e-6, "ftol": 1e-10}).x
    found = fit(asked, penalty=2.0)
    assert [found[name] for name in names] == pytest.approx(expected, abs=5e-3)
    assert found["length"] > 0.5 and found["digits"] > 0.3


def test_it_ranks_as_its_weights_say_and_learns_what_is_there():
    learnt, asked = made(400), made(400, seed=1)
    ranker = make_ranker("phrasing", PhrasingRanker.fitted(learnt))
    with ranker:
        told = ranker.probabilities(asked, None)
    assert told.dtype == np.float32 and told.sum(axis=1) == pytest.approx(1) and not told[:, 4].any()
    right = (told.argmax(axis=1) == asked.answers).mean()
    blind = make_ranker("phrasing", {"weights": {"length": 0}}).probabilities(asked, None)
    assert right > 0.45 and blind[:, :4] == pytest.approx(0.25)


OPTIONS = st.lists(st.one_of(st.none(), st.text(max_size=30)), min_size=2, max_size=26)


@given(st.text(max_size=60), OPTIONS, st.lists(st.floats(-50, 50), min_size=7, max_size=7))
@settings(max_examples=60)
def test_any_text_has_probabilities(prompt, options, weights):
    options = [o for o in options if o is None or o.strip()]
    if sum(o is not None for o in options) < 2 or not prompt.strip():
        return
    row = {"id": 1, "prompt": prompt, **dict(zip(LETTERS, options))}
    try:
        asked = Questions.from_rows([row], "any")
    except InputError:
        return
    told = PhrasingRanker(dict(zip(FEATURES, weights))).probabilities(asked, None)
    assert np.isfinite(told).all() and told.sum() == pytest.approx(1, abs=1e-5)
    assert not told[~asked.present].any()


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (None, "has no weights"), ({}, "has no weights"), ([1], "cannot be [1]"), ("all", "cannot be 'all'"),
        ({"lenght": 1}, "no feature 'lenght'"), ({3: 1}, "no feature 3"),
        ({"length": "long"}, "cannot be 'long'"), ({"length": float("nan")}, "cannot be nan"),
        ({"length": True}, "cannot be True"), ({"length": 10**400}, "cannot be 1000"),
    ],
)  # fmt: skip
def test_weights_that_are_none_are_refused(weights, said):
    with pytest.raises(ConfigError) as told:
        PhrasingRanker(weights)
    assert said in str(told.value) and "training phrasing" in str(told.value)


@pytest.fixture
def files(tmp_path):
    def write(name, asked):
        rows = [",".join(["id", "prompt", "A", "B", "C", "D", "answer"])]
        for question in asked:
            cells = [question.id, f'"{question.prompt}"', *question.options[:4], LETTERS[question.answer]]
            rows.append(",".join(cells))
        (tmp_path / name).write_text("\n".join(rows) + "\n")
        return tmp_path / name

    return write("train.csv", made(120)), write("test.csv", made(40, seed=5))


def call(monkeypatch, capsys, main, *words):
    monkeypatch.setattr("sys.argv", ["program", *map(str, words)])
    code = run_program(main)
    return code, capsys.readouterr()


def test_the_command_prints_weights_and_what_they_are_worth(files, monkeypatch, capsys):
    code, printed = call(monkeypatch, capsys, training, "phrasing", "--questions", files[0])
    assert code == 0
    line = printed.out.splitlines()[-1].removeprefix("in solution.yaml: ")
    (ranker,) = yaml.safe_load(line)["rankers"]
    assert ranker["options"]["weights"] == fit(Questions.read(files[0]))
    code, printed = call(monkeypatch, capsys, training, "phrasing", "--questions", files[0], "--json")
    told = json.loads(printed.out)
    assert told["weights"] == ranker["options"]["weights"] and told["map@3"] - told["against chance"] == (
        pytest.approx((1 + 1 / 2 + 1 / 3) / 4)
    )
    code, printed = call(
        monkeypatch, capsys, training, "phrasing", "--questions", files[0], "--exclude", files[0]
    )
    assert code == 2 and "no question is left" in printed.err
    code, printed = call(monkeypatch, capsys, training, "phrasing", "--questions", files[0], "--folds", 1)
    assert code == 2 and "at least two folds" in printed.err
    with pytest.raises(SystemExit):
        call(monkeypatch, capsys, training, "phrasing", "--questions", files[0], "--seed", -1)
    assert "is not a seed" in capsys.readouterr().err


def test_a_cross_validation_fits_it_on_the_other_folds_and_its_solution_submits(
    files, tmp_path, monkeypatch, capsys
):
    train, test = files
    solution = tmp_path / "s.yaml"
    solution.write_text(f"questions: {train}\nrankers: [{{kind: phrasing}}]\n")
    out = tmp_path / "run"
    words = ("cross-validate", solution, "--folds", 3, "--out", out, "--final")
    code, printed = call(monkeypatch, capsys, training, *words)
    assert code == 0, printed.err
    asked, oof = Questions.read(train), Predictions.read(out / "oof.parquet")
    for fold in range(3):
        rows = oof.folds == fold
        own = PhrasingRanker(**PhrasingRanker.fitted(asked.take(np.flatnonzero(~rows))))
        expected = own.probabilities(asked.take(np.flatnonzero(rows)), None)
        np.testing.assert_allclose(oof.tables["phrasing"][rows], expected, atol=1e-6)
    assert "used as is" not in printed.err
    (ranker,) = yaml.safe_load((out / "solution.yaml").read_text())["rankers"]
    assert ranker["options"]["weights"] == fit(asked)
    sent = tmp_path / "submission.csv"
    words = ("--questions", test, "--out", sent, "--without-contexts")
    code, printed = call(monkeypatch, capsys, inference, "submit", "--config", out / "solution.yaml", *words)
    assert code == 0, printed.err
    told = PhrasingRanker(ranker["options"]["weights"]).probabilities(Questions.read(test), None)
    assert [columns[0] for columns in read_submission(sent).values()] == told.argmax(axis=1).tolist()
    # With weights that these very questions may have given, its score says little.
    solution_as_is = tmp_path / "as_is.yaml"
    solution_as_is.write_text(yaml.safe_dump({"questions": str(train), "rankers": [ranker]}))
    words_as_is = ("cross-validate", solution_as_is, "--folds", 3, "--out", tmp_path / "as-is")
    code, printed = call(monkeypatch, capsys, training, *words_as_is)
    assert code == 0 and "phrasing is used as is" in printed.err
    # As it stands in the solution before, it has learnt nothing.
    code, printed = call(monkeypatch, capsys, inference, "submit", "--config", solution, *words)
    assert code == 2 and "has learnt nothing yet" in printed.err and "--final" in printed.err
