"""Cross-validation that tells the truth, its report, and runs side by side."""

import json

import numpy as np
import pytest
import ranker_toys
import yaml
from crossval_toys import contexts_of, rows, solution, telling, trained, write_rows
from interrupts import stop_at
from question_tables import first
from scipy import stats

from inference.checks import fitting_stack
from inference.predict import predict
from kaggle_rag.config import load
from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.questions import Questions
from kaggle_rag.ensembling.cascade import OutOfFold
from kaggle_rag.ensembling.stacking import Stack, option_features
from kaggle_rag.evaluation.metrics import average_precisions
from kaggle_rag.rankers.resources import Resources
from kaggle_rag.rankers.trained import TrainedRanker
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError, KitError
from kaggle_rag.sample import TRAIN
from training.__main__ import main
from training.crossval.compare import compare
from training.crossval.experiment import Experiment
from training.crossval.run import cross_validate
from training.crossval.settings import CrossValidationSettings
from training.crossval.splitting import make_parts
from training.loop.trainer import Progress

CHANCE = 11 / 18


def run(path, **changes):
    return cross_validate(CrossValidationSettings(path, **{"folds": 2, "alike": "words", **changes}))


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """Three cross-validations of one task: by two seeds, and one that may not read the contexts."""
    folder = tmp_path_factory.mktemp("learnt")
    made = rows(200, 0)
    settings = {"a": ({}, telling(made)), "b": ({"seed": 1}, telling(made)), "broken": ({"epochs": 1}, None)}
    paths = {
        name: solution(folder, made, said, rankers=[trained(**train)]).rename(folder / name)
        for name, (train, said) in settings.items()
    }
    return folder, {name: run(path, out=folder / "runs" / name) for name, path in paths.items()}


def test_the_task_is_learnt_and_every_figure_is_there(learnt):
    folder, found = learnt
    metrics = found["a"].as_json()
    score = metrics["scores"]["tiny"]["map@3"]
    assert score["low"] > 0.8 and metrics["chance"] == pytest.approx(CHANCE, abs=1e-3)
    assert metrics["folds"] == [100, 100] and len(metrics["scores"]["tiny"]["folds"]) == 2
    assert metrics["leaks"]["between folds"] == 0 and metrics["weights"]["refused"].startswith("one ranker")
    assert {each["name"] for each in metrics["slices"]} == {"answer A", "answer B", "answer C"}
    shown = found["a"].text()
    for part in ("fold 1 (100): tiny", "positions, blend:", "leaks:", "weight: 1.0, options: {folder: "):
        assert part in shown
    assert metrics == json.loads((folder / "runs" / "a" / "metrics.json").read_text())


def test_out_of_fold_predictions_are_those_of_the_model_that_did_not_see_the_row(learnt):
    folder, _ = learnt
    oof = Predictions.read(folder / "runs" / "a" / "oof.parquet")
    experiment = Experiment.open(
        CrossValidationSettings(folder / "a", out=folder / "runs" / "a", folds=2, alike="words")
    )
    for fold in range(2):
        record = json.loads((folder / "runs" / "a" / "tiny" / f"fold-{fold}" / "training.json").read_text())
        assert record["plan"]["fold"] == fold
        inside = np.flatnonzero(oof.folds == fold)
        with TrainedRanker(folder / "runs" / "a" / "tiny" / f"fold-{fold}", device="cpu") as ranker:
            asked = ranker.probabilities(
                experiment.questions.take(inside), [experiment.contexts[n] for n in inside]
            )
        assert np.allclose(oof.tables["tiny"][inside], asked, atol=1e-6)
    assert oof.marks == tuple(experiment.questions.fingerprints())


def test_what_can_only_be_memorised_is_at_chance_out_of_fold(tmp_path, monkeypatch):
    """Every option is a word of its own, so nothing but having seen the row tells the right one."""
    words = [f"w{number}" for number in range(120)]
    monkeypatch.setattr(ranker_toys, "WORDS", words)
    made = rows(40, 3)
    for number, row in enumerate(made):
        row.update(zip("ABC", words[3 * number :]))
    path = solution(tmp_path, made, [["?"] * 3] * 40, rankers=[trained(epochs=15, learning_rate=5e-3)])
    metrics = run(path, out=tmp_path / "run").as_json()
    assert abs(metrics["scores"]["tiny"]["map@3"]["mean"] - CHANCE) < 0.12
    experiment = Experiment.open(CrossValidationSettings(path, out=tmp_path / "run", folds=2, alike="words"))
    seen = np.flatnonzero(Predictions.read(tmp_path / "run" / "oof.parquet").folds != 0)
    questions = experiment.questions.take(seen)
    with TrainedRanker(tmp_path / "run" / "tiny" / "fold-0", device="cpu") as ranker:
        table = ranker.probabilities(questions, [experiment.contexts[row] for row in seen])
    assert average_precisions(table, questions.answers, questions.present).mean() > 0.9


def test_folds_keep_planted_copies_and_articles_together(tmp_path):
    made = rows(60, 0)
    copies = [
        row | {"id": f"copy {row['id']}", "prompt": " ".join(reversed(row["prompt"].split()))}
        for row in made[:6]
    ]
    made = made + copies
    articles = ["one" if 10 <= n < 16 else f"a{n}" for n in range(66)]
    path = solution(tmp_path, made, telling(made), articles=articles)
    for seed in range(5):
        experiment = Experiment.open(
            CrossValidationSettings(path, out=tmp_path / "run", folds=4, seed=seed, alike="words")
        )
        parts = make_parts(experiment)
        assert (parts.folds[:6] == parts.folds[60:]).all() and len(set(parts.folds[10:16])) == 1
        assert np.bincount(parts.folds).min() >= 12 and len(parts.pairs) == 6


def test_killed_and_resumed_a_run_gives_the_same_metrics(tmp_path, monkeypatch):
    made = rows(40, 0)
    path = solution(tmp_path, made, telling(made), rankers=[trained(epochs=1, held_out=0.2)])
    whole = run(path, out=tmp_path / "whole")
    for _ in range(2):
        monkeypatch.setattr(Progress, "on_step_end", stop_at(2))
        with pytest.raises(KeyboardInterrupt):
            run(path, out=tmp_path / "killed")
        monkeypatch.undo()
        # One fold is finished in between, by a session that trains it alone.
        found = run(path, out=tmp_path / "killed", fold=0)
        assert found.as_json()["missing folds"] == [1] and "fold 1" in found.text()
    ended, aside = run(path, out=tmp_path / "killed"), {"run": "", "paste": ""}
    assert ended.as_json() | aside == whole.as_json() | aside


def test_what_is_there_is_taken_up_even_where_the_weights_are_gone(learnt, monkeypatch):
    folder, found = learnt
    monkeypatch.setattr("training.rankers.train.train_ranker", None)
    assert run(folder / "a", out=folder / "runs" / "a").as_json() == found["a"].as_json()


def test_a_changed_setting_is_never_answered_by_the_old_run(tmp_path):
    made = rows(20, 0)
    quick = {"epochs": 1}
    path = solution(tmp_path, made, telling(made), rankers=[trained(**quick)])
    run(path, out=tmp_path / "run")
    path.write_text(path.read_text().replace("epochs: 1", "epochs: 2"))
    written = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(ArtifactError, match="a trained model, which differs in epochs"):
        run(path, out=tmp_path / "run")
    # What was refused is not what the folder says it holds.
    assert written == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(ArtifactError, match="already exists, and differs in folds and seed"):
        run(path, out=tmp_path / "run", folds=3, seed=1)
    with pytest.raises(ArtifactError, match="something other than a cross-validation"):
        run(path, out=tmp_path)


def test_folds_that_cannot_be_made_leave_nothing(tmp_path):
    one = rows(1, 0)[0]
    made = [one | {"id": f"copy {number}", "answer": "AB"[number % 2]} for number in range(6)]
    path = solution(tmp_path, made, telling(made))
    for folds, message in ((1, "--folds 1"), (7, "--folds 7 of 6 questions"), (2, "2 folds of 1 group")):
        with pytest.raises(ConfigError, match=message):
            run(path, out=tmp_path / "run", folds=folds)
        assert not (tmp_path / "run").exists()


def test_the_final_rankers_answer_by_the_solution_that_was_written(tmp_path, monkeypatch):
    made = rows(24, 0)
    path = solution(
        tmp_path, made, telling(made), rankers=[trained(epochs=2), {"kind": "similarity", "weight": 0.5}]
    )
    found = run(path, out=tmp_path / "run", final=True)
    assert found.solution == tmp_path / "run/solution.yaml" and str(found.solution) in found.text()
    record = json.loads((tmp_path / "run/tiny/final/training.json").read_text())
    assert record["plan"]["fold"] is None and record["result"]["after"] == {}
    # The folder is moved, as an input of a notebook is.
    (tmp_path / "run").rename(tmp_path / "input")
    flags = {"questions": tmp_path / "solution.csv", "contexts_file": tmp_path / "solution.parquet"}
    given = load(tmp_path / "input/solution.yaml", flags=flags)
    assert [ranker.weight for ranker in given.rankers] == [0.5, 0.5]
    questions = Questions.read(flags["questions"])
    kept = read_contexts(flags["contexts_file"], questions)
    table = predict(Resources.open(given), questions, kept)
    with TrainedRanker(str(tmp_path / "input/tiny/final"), device="cpu") as ranker:
        theirs = ranker.probabilities(questions, kept)
    similar = predict(Resources.open(load(None, ["device=cpu"])), questions, kept)
    powers = [each ** (1 / r.temperature) for each, r in zip((theirs, similar), given.rankers)]
    alike = [each / each.sum(axis=1, keepdims=True) for each in powers]
    assert np.allclose(table, sum(alike) / 2, atol=1e-5)
    # What the rankers answered out of fold goes with them.
    kept = OutOfFold.read(given.out_of_fold, 2)
    assert given.out_of_fold == tmp_path / "input/out_of_fold.parquet" and len(kept.answers) == 24


def test_rankers_are_blended_stacked_and_held_against_other_files(tmp_path, capsys):
    """Similarity alone, on the embedded sample: nothing is trained, and embeddings find near-duplicates."""
    train = first(TRAIN, 40, tmp_path / "train.csv")
    questions = Questions.read(train)
    copied = [
        {"id": f"t{n}", "prompt": questions.prompts[n]} | dict(zip("ABCDE", questions.options[n]))
        for n in range(3)
    ]
    test = write_rows(tmp_path / "test.csv", copied)
    said = [
        [option and options[answer] for option in options]
        for options, answer in zip(questions.options, questions.answers)
    ]
    contexts = contexts_of(tmp_path / "c.parquet", train, said)
    path = tmp_path / "solution.yaml"
    options = [{"score": "words_only"}, {"score": "best_option", "temperature": 1.0}]
    both = [{"kind": "similarity", "options": each} for each in options]
    path.write_text(yaml.safe_dump({"questions": str(test), "rankers": both}))
    command = ["cross-validate", str(path), "--questions", str(train), "--contexts", str(contexts)]
    command += ["--folds", "3", "--out", str(tmp_path / "run"), "--stack", "logistic"]
    assert call(*command) == 0
    shown = capsys.readouterr().out
    assert "similarity-2" in shown and "stack (logistic): better than equal weights" in shown
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["leaks"]["files"][str(test)]["repeated"] == 3
    scores = {name: score["map@3"]["mean"] for name, score in metrics["scores"].items()}
    assert scores["similarity-2"] == 1.0 and scores["stack"] > scores["similarity"]
    assert metrics["weights"]["weights"]["similarity-2"] > 0.5
    assert set(Predictions.read(tmp_path / "run" / "oof.parquet").tables) == set(scores)
    # What was printed answers the same questions as the arrays say.
    stack = f"stack: {tmp_path}/run/stack.npz"
    assert stack in shown
    (tmp_path / "pasted.yaml").write_text(f"{stack}\nrankers: {json.dumps(both)}\n")
    found = load(tmp_path / "pasted.yaml", flags={"questions": train, "contexts_file": contexts})
    kept = read_contexts(contexts, questions)
    table = predict(Resources.open(found), questions, kept)
    each = [
        predict(Resources.open(load(None, [f"rankers=[{json.dumps(one)}]"])), questions, kept)
        for one in both
    ]
    names = ("similarity", "similarity-2")
    features, _ = option_features(dict(zip(names, each)), questions.present)
    made = Stack.load(tmp_path / "run/stack.npz")
    # In batches of other questions the last digit may be another.
    assert np.allclose(table, made.probabilities(features, questions.present), atol=1e-5)
    one = found.model_copy(update={"rankers": found.rankers[:1]})
    with pytest.raises(ConfigError, match="combines 2 rankers, the settings name 1"):
        fitting_stack(one)


def call(*arguments):
    import sys

    before, sys.argv = sys.argv, ["training", *arguments]
    try:
        return main()
    finally:
        sys.argv = before


def test_two_seeds_are_not_distinguishable_and_a_broken_run_is(learnt, capsys):
    folder = learnt[0] / "runs"
    found = compare([folder / "a", folder / "b", folder / "broken"])
    _, seed, broken = found.runs
    assert not seed.against.distinguishable and "not distinguishable" in str(seed.against)
    assert seed.shared == 200 and broken.against.distinguishable
    assert broken.against.difference.high < 0 and broken.against.p_value < 0.01
    contexts = str(learnt[0] / "solution.parquet")
    assert found.differences == {
        "contexts": [contexts, contexts, "none"],
        "rankers.tiny.train.epochs": [4, 4, 1],
        "rankers.tiny.train.seed": [None, 1, None],
    }
    assert "rankers.tiny.train.seed: None | 1 | None" in found.text()
    assert found.single_seeds == tuple(folder / name for name in ("a", "b", "broken"))
    # The same file by another path is no other setting.
    recorded = json.loads((folder / "b" / "run.json").read_text())
    recorded["configuration"]["questions"] = "elsewhere.csv"
    (folder / "b" / "run.json").write_text(json.dumps(recorded))
    assert "questions" not in compare([folder / "a", folder / "b"]).differences
    assert call("compare", str(folder / "a"), str(folder / "b"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["runs"][1]["shared"] == 200


def test_an_unfinished_run_is_not_compared(tmp_path):
    made = rows(20, 0)
    path = solution(tmp_path, made, telling(made), rankers=[trained(epochs=1)])
    run(path, out=tmp_path / "run", fold=0)
    with pytest.raises(ArtifactError, match="not finished"):
        compare([tmp_path / "run"] * 2)
    with pytest.raises(ArtifactError, match="no such folder"):
        compare([tmp_path / "nothing"] * 2)


def predictions(folder, prompts, answers, wrong=0, by_seed=(), rankers=None):
    """A finished run whose ranker is right but for the first rows."""
    questions = Questions.from_rows(
        [
            {"id": n, "prompt": prompt, "A": "x", "B": "y", "answer": answer}
            for n, (prompt, answer) in enumerate(zip(prompts, answers))
        ],
        "test",
    )
    table = np.eye(2, dtype=np.float32)[questions.answers] * 0.8 + 0.1
    table[:wrong] = 1 - table[:wrong]
    folder.mkdir()
    Predictions.of(questions, np.zeros(len(questions), int), {"blend": table}, {}).write(
        folder / "oof.parquet"
    )
    decided = {"folds": 2, "seed": 0, "questions": "sum", "contexts": None}
    configuration = {"rankers": rankers or {}}
    head = {"kind": "kaggle-rag cross-validation", "decided": decided, "configuration": configuration}
    (folder / "run.json").write_text(json.dumps(head))
    seeds = {"by seed": by_seed} if by_seed else {}
    (folder / "metrics.json").write_text(json.dumps({"scores": {"blend": seeds}}))
    return folder


def test_runs_are_paired_by_prompt_and_options_and_by_answer(tmp_path):
    names = [f"p{n}" for n in range(6)]
    first = predictions(tmp_path / "a", names, "ABABAB")
    # Another order, one question more, one answer changed, the first two wrong.
    other = predictions(tmp_path / "b", [*names[::-1], "new"], "BABABBA", wrong=2)
    run = compare([first, other]).runs[1]
    assert (run.questions, run.shared, run.other_answers) == (7, 5, 1)
    assert run.against.difference.mean == pytest.approx(-2 * 0.5 / 5)
    with pytest.raises(InputError, match="shares no question with"):
        compare([first, predictions(tmp_path / "c", ["else"], "A")])
    with pytest.raises(ConfigError, match="no ranker 'tiny'"):
        compare([first, other], "tiny")
    with pytest.raises(ConfigError, match="only one run"):
        compare([first])
    with pytest.raises(ArtifactError, match="holds no cross-validation"):
        compare([first, tmp_path])


def test_a_question_that_is_there_several_times_counts_as_often(tmp_path):
    names = ["p0", "p0", "p0", "p1"]
    first, other = (predictions(tmp_path / name, names, "AAAB", wrong=n) for name, n in (("a", 3), ("b", 1)))
    one, two = compare([first, other]).runs
    assert (one.questions, one.score.mean) == (4, pytest.approx(2.5 / 4))
    assert (two.shared, two.score.mean) == (4, pytest.approx(3.5 / 4))
    assert two.against.difference.mean == pytest.approx(0.25)


def test_what_seeds_move_is_in_the_interval(tmp_path):
    """By hand: Student's t, with the spread over questions and that over the seeds of both runs."""
    names, answers = [f"p{n}" for n in range(40)], "AB" * 20
    first = predictions(tmp_path / "a", names, answers, wrong=3, by_seed=[0.90, 0.94, 0.95])
    other = predictions(tmp_path / "b", names, answers, wrong=1, by_seed=[0.97, 0.99])
    alone = predictions(tmp_path / "c", names, answers, wrong=1)
    _, with_seeds, without = compare([first, other, alone]).runs
    gaps = np.zeros(40)
    gaps[1:3] = 0.5
    parts = [
        (np.var(each, ddof=1) / len(each), len(each) - 1)
        for each in (gaps, [0.90, 0.94, 0.95], [0.97, 0.99])
    ]
    for found, known in ((with_seeds, parts), (without, parts[:2])):
        variance = sum(part for part, _ in known)
        freedom = variance**2 / sum(part**2 / degrees for part, degrees in known)
        low, high = stats.t.interval(0.95, freedom, loc=gaps.mean(), scale=variance**0.5)
        assert found.against.difference.low == pytest.approx(low)
        assert found.against.difference.high == pytest.approx(high)


def test_a_run_with_one_seed_is_named(tmp_path):
    seeded, once = ({"bert": {"train": train}} for train in ({"seeds": 3}, {"epochs": 1}))
    untrained = {"similarity": {}}
    runs = [
        predictions(tmp_path / name, ["p0", "p1", "p2"], "ABA", by_seed=by_seed, rankers=rankers)
        for name, by_seed, rankers in (
            ("three", [0.8, 0.9, 0.7], seeded), ("one", (), once), ("free", (), untrained),
            ("both", [0.8, 0.9, 0.7], {**seeded, "deberta": once["bert"]}),
        )
    ]  # fmt: skip
    found = compare(runs)
    assert found.single_seeds == (runs[1], runs[3])
    assert f"trained with one seed: {runs[1]}, {runs[3]}" in found.text()
    assert "one seed" not in compare([runs[0], runs[2]]).text()


WRONG = {
    "is not trained": {"kind": "similarity", "train": {"command": "causal"}},
    "no command 'deberta'": {"kind": "trained", "train": {"command": "deberta"}},
    "'fold' cannot be set for one ranker": trained(fold=1),
    "no such setting; did you mean 'epochs'": trained(epoch=3),
    "no model 'nowhere'": trained(model="nowhere"),
    "has no setting 'chunk'": trained() | {"options": {"chunk": 3}},
    "no such file": trained(drop="none.csv"),
    "python -m training multiple-choice": trained(command="causal"),
    "needs the setting 'folder'": {"kind": "trained"},
    "seed: '1'(.|\n)*a whole number": trained(seeds=3, seed="1"),
}


@pytest.mark.parametrize("message", WRONG)
def test_every_fault_of_a_ranker_is_told_before_anything_is_learnt(message, tmp_path):
    made = rows(6, 0)
    path = solution(tmp_path, made, telling(made), rankers=[trained(), WRONG[message]])
    with pytest.raises(KitError, match=message):
        run(path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_faults_of_the_study_are_told(tmp_path):
    made = rows(6, 0)
    path = solution(tmp_path, made, telling(made), rankers=[{"kind": "similarity"}])
    with pytest.raises(ConfigError, match="--fold 2 of 2"):
        run(path, fold=2)
    with pytest.raises(InputError, match="no such file"):
        run(path, against=(tmp_path / "none.csv",))
    with pytest.raises(ConfigError, match="the solution reads contexts"):
        run(path, questions=write_rows(tmp_path / "other.csv", rows(6, 1)))
    path.write_text("rankers: [{kind: similarity}]")
    with pytest.raises(ConfigError, match="no questions to learn from"):
        run(path)


def test_faults_of_folds_questions_files_and_rankers_are_told_at_once(tmp_path):
    made = rows(6, 0)
    made[2] |= {"answer": ""}
    wrong = [trained(model="nowhere"), {"kind": "similarity", "options": {"temperature": "hot"}}]
    path = solution(tmp_path, made, None, rankers=wrong)
    with pytest.raises(KitError, match="5 things must be fixed") as raised:
        run(path, folds=1, against=(tmp_path / "none.csv",), out=tmp_path / "run")
    for said in ("--folds 1", "1 of 6 questions have no answer", "none.csv", "'nowhere'", "cannot be 'hot'"):
        assert said in str(raised.value), said
    assert not (tmp_path / "run").exists()


def test_a_ranker_that_is_asked_as_it_is_is_told_of(learnt, tmp_path, capsys, monkeypatch):
    folder, _ = learnt
    made = rows(200, 0)
    asked = {"kind": "trained", "options": {"folder": str(folder / "runs" / "a" / "tiny" / "fold-0")}}
    path = solution(tmp_path, made, telling(made), rankers=[asked])
    metrics = run(path, out=tmp_path / "run").as_json()
    assert "fold-0 was trained on 100 of these 200 questions" in capsys.readouterr().err
    assert metrics["scores"]["fold-0"]["map@3"]["mean"] > 0.9
    assert metrics["leaks"]["files"] == {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="runs in one process"):
        run(path, out=tmp_path / "run")


def test_a_dry_run_keeps_nothing(tmp_path, capsys):
    made = rows(40, 0)
    path = solution(tmp_path, made, telling(made))
    assert (
        call("cross-validate", str(path), "--out", str(tmp_path / "run"), "--dry-run", "--alike", "words")
        == 0
    )
    shown = capsys.readouterr().out
    assert "folds of 8, 8, 8, 8, 8 questions" in shown and "5 runs, about" in shown
    assert not (tmp_path / "run").exists()
