"""Bins, flags and sentences by hand, and runs of every kind against what was handed in."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from question_tables import first, table
from report_toys import cli, page_of_run

from inference.report.build import report
from inference.report.evidence import best_sentence, snippet_views
from inference.report.measures import Answered, flags_of, reliability
from kaggle_rag.data.contexts import Context, Evidence, QuestionContexts, Snippet
from kaggle_rag.data.questions import LETTERS, Questions
from kaggle_rag.data.submission import read_submission
from kaggle_rag.ensembling.stacking import fit_stack
from kaggle_rag.rankers.similarity import SimilarityRanker
from kaggle_rag.sample import TRAIN


def test_reliability_by_hand():
    rows = np.array([[0.95, 0.05], [0.08, 0.92], [0.6, 0.4], [0.5, 0.5], [1.0, 0.0]], np.float32)
    # The fourth is a tie: the first option is chosen.
    bins = reliability(rows, np.array([0, 0, 0, 1, 0]), np.ones((5, 2), bool))
    assert [(each.low, each.high) for each in bins] == [(n / 10, (n + 1) / 10) for n in range(10)]
    assert [each.count for each in bins] == [0, 0, 0, 0, 0, 1, 1, 0, 0, 3]
    assert bins[9].confidence == pytest.approx((0.95 + 0.92 + 1) / 3, abs=1e-6)
    assert bins[9].accuracy == pytest.approx(2 / 3) and bins[5].accuracy == 0 and bins[6].accuracy == 1
    assert reliability(rows[:0], np.zeros(0, np.int64), np.ones((0, 2), bool)) == ()


def evidence(text):
    return QuestionContexts(
        Context((Snippet("T", text, 0.7, (1,)),), (Evidence("a", "T", 1, text, 0.1, "all", 0.7, "t"),)), ()
    )


def test_flags_by_hand():
    questions = table(
        ("sure", ("one", "two"), 0),
        ("wrong", ("red", "blue"), 1),
        ("close", ("sun", "moon"), 0),
        ("torn", ("sea", "land"), 0),
        ("twins", ("the speed of light", "the speed of lights"), 0),
        ("none", ("iron", "None of the above"), 0),
        ("silent", ("up", "down"), None),
        ("half", ("hot", "cold"), 0),
    )
    nan = [np.nan, np.nan]
    first = [[0.9, 0.1], [0.8, 0.2], [0.54, 0.46], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1], nan, nan]
    second = [[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.4, 0.6], [0.9, 0.1], [0.9, 0.1], nan, [0.7, 0.3]]
    pad = np.zeros((8, questions.width - 2))
    tables = {name: np.hstack([np.array(rows), pad]).astype(np.float32)
              for name, rows in (("a", first), ("b", second))}  # fmt: skip
    mixed = np.nan_to_num(np.mean([first, second], axis=0), nan=0.5)
    mixed[7] = second[7]
    mix = np.hstack([mixed, pad]).astype(np.float32)
    empty = QuestionContexts(Context((), ()), ())
    contexts = [evidence("It is so."), empty, None, *[evidence("It is so.")] * 5]
    answered = Answered(questions, tables, {"blend": mix}, contexts)
    margins = np.abs(mix[:, 0] - mix[:, 1]).astype(np.float64)
    flags = {key: np.flatnonzero(mask).tolist() for key, mask in flags_of(answered, margins).items()}
    assert flags == {
        "wrong": [1], "low-margin": [2, 6], "disagree": [3], "no-evidence": [1, 2], "twins": [4],
        "none-of": [5], "unanswered": [6],
    }  # fmt: skip
    bare = Answered(questions, tables, {"blend": mix}, None)
    assert not flags_of(bare, margins)["no-evidence"].any()


def test_the_sentence_that_shares_most_is_the_one():
    texts = [
        "Titan orbits Saturn. Ganymede orbits Jupiter.",
        "The largest moon of Jupiter is Ganymede. It is big.",
    ]
    prompt = "Which is the largest moon of Jupiter?"
    number, start, end = best_sentence(texts, prompt, "Ganymede")
    assert texts[number][start:end] == "The largest moon of Jupiter is Ganymede."
    number, start, end = best_sentence(texts, "What orbits Saturn?", "Titan")
    assert texts[number][start:end] == "Titan orbits Saturn."
    assert best_sentence(texts, "Who wrote it?", "Goethe") is None and best_sentence([], prompt, "x") is None


def test_snippets_of_the_chosen_option_come_first_and_each_once():
    def context(*texts):
        return Context(tuple(Snippet("T", text, 0.5) for text in texts), ())

    contexts = QuestionContexts(
        None, (context("Alpha is one.", "Both."), None, context("Beta is two.", "Both."))
    )
    views = snippet_views(contexts, "Which is two?", "Beta", 2)
    assert [(each.text, each.options) for each in views] == [
        ("Beta is two.", "C"), ("Both.", "C"), ("Alpha is one.", "A"),
    ]  # fmt: skip
    assert [each.marked for each in views] == [(0, 12), None, None]


COUNT = 40
TWO = "rankers=[{kind: similarity}, {kind: similarity, options: {score: novel}}]"


@pytest.fixture(scope="module")
def place(facts_index, tmp_path_factory):
    """A run by two rankers on questions that the index knows little about."""
    folder = tmp_path_factory.mktemp("kinds")
    train = first(TRAIN, COUNT, folder / "train.csv")
    assert cli("contexts", "--questions", train, "--index", facts_index, "--out", folder / "c.parquet") == 0

    def submit(name, *flags):
        words = ["--questions", train, "--contexts-file", folder / "c.parquet", "--set", TWO]
        assert cli("submit", *words, "--out", folder / f"{name}.csv", *flags) == 0
        return folder / f"{name}.predictions"

    submit("plain")
    return folder, submit


def reported(folder, run, out):
    return report(run, folder / "train.csv", folder / "c.parquet", out / "r.html")


def handed_in(data, path):
    """Whether the order of options in a report is that of a submission."""
    orders = {each.id: each.options for each in data.questions}
    rows = read_submission(path)
    assert len(rows) == len(orders) == COUNT
    best = {key: sorted(orders[key], key=lambda option: -option.probability)[:3] for key in rows}
    return all([LETTERS.index(each.letter) for each in best[key]] == rows[key] for key in rows)


def test_a_blend_by_ranks_is_what_was_handed_in(place, tmp_path):
    folder, submit = place
    run = submit("ranks", "--set", "blend=ranks", "--set", TWO.replace("novel}", "novel}, weight: 1.7"))
    data = reported(folder, run, tmp_path)
    assert handed_in(data, folder / "ranks.csv")
    for question in data.questions:
        first, second = zip(*(each.by_ranker for each in question.options))
        points = [1 / (1 + sum(x > a for x in first)) + 1.7 / (1 + sum(x > b for x in second))
                  for a, b in zip(first, second)]  # fmt: skip
        shares = [each.probability for each in question.options]
        assert shares == pytest.approx([each / sum(points) for each in points], abs=1e-6)
    plain = reported(folder, folder / "plain.predictions", tmp_path)
    assert handed_in(plain, folder / "plain.csv") and plain.mix.name == "blend"


def test_a_stack_is_what_was_handed_in(place, tmp_path):
    folder, submit = place
    questions = Questions.read(folder / "train.csv")
    read = {name: pq.read_table(folder / "plain.predictions" / f"{name}.parquet")
            for name in ("similarity", "similarity-2")}  # fmt: skip
    tables = {
        name: np.stack([rows[f"{name}.{x}"].to_numpy() for x in questions.letters], axis=1)
        for name, rows in read.items()
    }
    fit_stack(tables, questions.answers, questions.present).stack.save(tmp_path / "stack.npz")
    run = submit("stacked", "--set", f"stack={tmp_path / 'stack.npz'}")
    data = reported(folder, run, tmp_path)
    assert data.mix.name == "stack" and handed_in(data, folder / "stacked.csv")
    assert not handed_in(data, folder / "plain.csv")


def test_a_ranker_that_failed_is_left_out_even_if_an_earlier_run_had_it(place, tmp_path, monkeypatch):
    folder, submit = place
    shutil.copytree(folder / "plain.predictions", folder / "failed.predictions")
    answer = SimilarityRanker.probabilities

    def probabilities(self, questions, contexts):
        if self.score == "novel":
            raise RuntimeError("broken")
        return answer(self, questions, contexts)

    monkeypatch.setattr(SimilarityRanker, "probabilities", probabilities)
    run = submit("failed", "--set", TWO.replace("novel", "novel, temperature: 0.9"))
    assert (run / "similarity-2.parquet").is_file()
    data = reported(folder, run, tmp_path)
    assert [each.name for each in data.rankers] == ["similarity"] and handed_in(data, folder / "failed.csv")
    assert data.notes == ("rank: similarity-2 failed: RuntimeError: broken",)


def test_a_killed_run_shows_what_was_answered(place, tmp_path):
    folder, _ = place
    run = shutil.copytree(folder / "plain.predictions", tmp_path / "killed.predictions")
    (run / "run.json").unlink()
    (run / "similarity-2.parquet").unlink()
    data = reported(folder, run, tmp_path)
    assert [each.name for each in data.rankers] == ["similarity"] and not data.stages


def test_questions_in_another_order_and_others_among_them_are_found(place, tmp_path):
    folder, _ = place
    rows = pq.read_table(folder / "plain.predictions" / "similarity.parquet")["id"].to_pylist()
    lines = (folder / "train.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "id,prompt,A,B,C,D,is_question,answer"
    extra = "more,What is new?,a,b,c,d,True,A"
    (tmp_path / "q.csv").write_text("\n".join([lines[0], extra, *lines[:0:-1]]) + "\n", encoding="utf-8")
    data = report(folder / "plain.predictions", tmp_path / "q.csv", folder / "c.parquet", tmp_path / "r.html")
    assert [each.id for each in data.questions] == rows and handed_in(data, folder / "plain.csv")
    assert data.notes == ("the run answers 40 of the 41 questions of q.csv",)


def test_a_cross_validation_is_shown_with_its_own_figures(place, tmp_path):
    folder, _ = place
    inputs = folder / "train.csv", folder / "c.parquet"
    rankers = [{"kind": "similarity"}, {"kind": "similarity", "options": {"score": "novel"}}]
    solution = {"questions": str(inputs[0]), "contexts_file": str(inputs[1]), "rankers": rankers}
    (tmp_path / "solution.yaml").write_text(yaml.safe_dump(solution))
    from training.crossval.run import cross_validate
    from training.crossval.settings import CrossValidationSettings

    settings = CrossValidationSettings(
        tmp_path / "solution.yaml", out=tmp_path / "run", folds=2, alike="words", stack="logistic"
    )
    cross_validate(settings)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    data, root = page_of_run(tmp_path / "r.html", tmp_path / "run", *inputs)
    assert data.kind == "cross-validation" and not data.stages
    assert len(root.all("details", class_="q")) == COUNT
    found = {each.name: each for each in (data.mix, *data.rankers)}
    assert found.keys() == metrics["scores"].keys() and len(found) == 4 and data.single == 2
    for name, each in found.items():
        expected = metrics["scores"][name]
        assert each.scores.map3.mean == pytest.approx(expected["map@3"]["mean"], abs=1e-4)
        assert each.scores.map3.low == pytest.approx(expected["map@3"]["low"], abs=1e-4)
        assert each.scores.accuracy == pytest.approx(expected["accuracy"], abs=1e-4)
        assert each.scores.log_loss == pytest.approx(expected["log loss"], abs=1e-4)
        if name in metrics["weights"]["weights"]:
            assert each.weight == metrics["weights"]["weights"][name]
    assert [each.name for each in data.slices] == [each["name"] for each in metrics["slices"]]
    assert [each.score.mean for each in data.slices] == pytest.approx(
        [each["score"]["mean"] for each in metrics["slices"]], abs=1e-6
    )
    assert data.mix.name == ("stack" if metrics["stack"]["better"] else "blend")
    assert any(each.snippets for each in data.questions)
