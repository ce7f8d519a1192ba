"""Several seeds of one ranker count as one, with a weight and a temperature that they share."""

import json

import numpy as np
import pytest
import yaml
from crossval_toys import rows, solution, telling, trained
from scipy.special import softmax

from inference.cascade import mixed
from inference.predict import predict
from kaggle_rag.config import load
from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.questions import Questions
from kaggle_rag.ensembling.blending import fit_weights
from kaggle_rag.evaluation.metrics import average_precisions
from kaggle_rag.evaluation.scaling import cross_fitted, fit_vector
from kaggle_rag.rankers.resources import Resources
from kaggle_rag.rankers.trained import TrainedRanker
from kaggle_rag.runtime.errors import ConfigError, KitError
from training.crossval.compare import compare
from training.crossval.experiment import Experiment
from training.crossval.mixing import groups_of
from training.crossval.run import cross_validate
from training.crossval.settings import CrossValidationSettings


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two seeds of one ranker beside another one, cross-validated and trained on everything."""
    folder = tmp_path_factory.mktemp("seeds")
    questions = rows(80, 0)
    rankers = [trained(seeds=2, seed=5), trained(epochs=1, learning_rate=1e-3)]
    path = solution(folder, questions, telling(questions), rankers=rankers)
    settings = CrossValidationSettings(path, folds=2, alike="words", out=folder / "run", final=True)
    report = cross_validate(settings)
    return folder, report


def tables_of(folder):
    stored = Predictions.read(folder / "run" / "oof.parquet")
    return stored, {name: stored.tables[name].astype(np.float64) for name in stored.tables}


def test_each_seed_is_trained_and_their_mean_is_reported(made):
    folder, report = made
    _, tables = tables_of(folder)
    assert [*tables] == ["tiny", "tiny-2", "tiny-3", "tiny, 2 seeds", "blend"]
    np.testing.assert_allclose(tables["tiny, 2 seeds"], (tables["tiny"] + tables["tiny-2"]) / 2, atol=1e-6)
    plans = [
        json.loads((folder / "run" / name / "fold-0" / "training.json").read_text())["plan"]
        for name in ("tiny", "tiny-2")
    ]
    assert [plan["seed"] for plan in plans] == [5, 6] and "seeds" not in plans[0]
    assert np.abs(tables["tiny"] - tables["tiny-2"]).max() > 1e-5
    questions, scores = Questions.read(folder / "solution.csv"), report.as_json()["scores"]
    by_seed = [
        average_precisions(tables[name], questions.answers, questions.present).mean()
        for name in ("tiny", "tiny-2")
    ]
    np.testing.assert_allclose(scores["tiny, 2 seeds"]["by seed"], by_seed, atol=1e-9)
    assert len(scores["blend"]["by seed"]) == 2 and "by seed" not in scores["tiny-3"]
    told = "  ".join(f"{each:.3f}" for each in by_seed)
    assert f"tiny, 2 seeds, with one seed: {told}" in report.text()


def test_runs_are_compared_by_the_mean_of_a_rankers_seeds(made, tmp_path):
    folder, _ = made
    once = cross_validate(
        CrossValidationSettings(
            solution(tmp_path, rows(80, 0), telling(rows(80, 0)), rankers=[trained(seed=5)]), folds=2,
            alike="words", out=tmp_path / "run",
        )
    )  # fmt: skip
    found = compare([folder / "run", once.run], "tiny")
    _, tables = tables_of(folder)
    questions = Questions.read(folder / "solution.csv")
    values = average_precisions(tables["tiny, 2 seeds"], questions.answers, questions.present)
    assert found.runs[0].score.mean == pytest.approx(values.mean())
    assert found.single_seeds == (once.run,)
    assert found.differences["rankers.tiny.train.seeds"] == [2, None]
    assert not any(key.startswith("rankers.tiny-2.") for key in found.differences)
    with pytest.raises(ConfigError, match="'tiny-2'") as refused:
        compare([folder / "run", once.run], "tiny-2")
    assert "one of 'tiny', 'tiny-3', 'blend'" in str(refused.value)


def test_the_blend_counts_them_once(made):
    """By hand: both seeds at one temperature, their mean weighed against the other ranker."""
    folder, report = made
    stored, tables = tables_of(folder)
    questions = Questions.read(folder / "solution.csv")
    answers, present, folds = questions.answers, questions.present, stored.folds
    both = np.concatenate([tables["tiny"], tables["tiny-2"]]).astype(np.float32)
    twice = [np.concatenate([each, each]) for each in (answers, present, folds)]
    first, second = np.split(cross_fitted(both, *twice), 2)
    other = cross_fitted(stored.tables["tiny-3"], answers, present, folds)
    fitted = fit_weights([(first + second) / 2, other], answers, present, folds=folds)
    np.testing.assert_allclose(tables["blend"], fitted.held_out, atol=1e-5)
    each = [fitted.weights[0] * seed + fitted.weights[1] * other for seed in (first, second)]
    values = [average_precisions(one, answers, present).mean() for one in each]
    np.testing.assert_allclose(report.as_json()["scores"]["blend"]["by seed"], values, atol=1e-6)
    found = yaml.safe_load((folder / "run" / "solution.yaml").read_text())["rankers"]
    kept = [weight for weight in (fitted.weights[0] / 2, fitted.weights[0] / 2, fitted.weights[1]) if weight]
    assert [ranker["weight"] for ranker in found] == pytest.approx(kept, abs=1e-4)
    assert len({ranker["temperature"] for ranker in found[:2]}) == 1


def test_a_submission_of_the_solution_blends_the_same(made):
    folder, _ = made
    path = folder / "run" / "solution.yaml"
    described = yaml.safe_load(path.read_text())
    questions = Questions.read(folder / "solution.csv").take(range(12))
    contexts = read_contexts(folder / "solution.parquet", questions)
    blended = predict(Resources.open(load(path)), questions, contexts)
    total, weights = 0.0, 0.0
    for ranker in described["rankers"]:
        with TrainedRanker(str(folder / "run" / ranker["options"]["folder"]), device="cpu") as opened:
            table = opened.probabilities(questions, contexts).astype(np.float64)
        sharpened = table ** (1 / ranker["temperature"])
        total = total + ranker["weight"] * sharpened / sharpened.sum(axis=1, keepdims=True)
        weights += ranker["weight"]
    np.testing.assert_allclose(blended, total / weights, atol=1e-5)


def test_letters_are_scaled_in_the_blend_and_in_a_submission_alike(made):
    """The trainings are those of the run before; only what is fitted on them differs."""
    folder, _ = made
    settings = CrossValidationSettings(
        folder / "solution.yaml", folds=2, alike="words", out=folder / "run", final=True, calibration="vector"
    )
    told = cross_validate(settings).as_json()
    stored, tables = tables_of(folder)
    questions = Questions.read(folder / "solution.csv")
    by_hand = cross_fitted(
        stored.tables["tiny-3"], questions.answers, questions.present, stored.folds, fit_vector
    )
    described = yaml.safe_load((folder / "run" / "solution.yaml").read_text())["rankers"]
    vectors = [each["vector"] for each in described]
    assert vectors[0] == vectors[1] and not any("temperature" in each for each in described)
    assert told["weights"]["vectors"]["tiny"]["vector"] == vectors[0]
    assert np.abs(by_hand - tables["tiny-3"]).max() > 1e-4
    solution_made = load(folder / "run" / "solution.yaml")
    some = [np.asarray(stored.tables[name][:5]) for name in ("tiny", "tiny-2", "tiny-3")][: len(described)]
    blended = mixed(solution_made, some, questions.present[:5])
    total = sum(
        each["weight"] * softmax(np.log(np.maximum(table, 1e-12)) * factors + biases, axis=1)
        for each, table in zip(described, some)
        for factors, biases in [(each["vector"]["factors"], each["vector"]["biases"])]
    )
    np.testing.assert_allclose(blended, total / total.sum(axis=1, keepdims=True), atol=1e-4)


def test_by_ranks_each_seed_is_a_ranker_of_its_own(made):
    folder, _ = made
    path = folder / "ranks.yaml"
    path.write_text((folder / "solution.yaml").read_text() + "\nblend: ranks\n")
    experiment = Experiment.open(CrossValidationSettings(path, folds=2, alike="words", out=folder / "ranks"))
    assert groups_of(experiment, ["tiny", "tiny-2"]) == [["tiny"], ["tiny-2"]]


@pytest.mark.parametrize("count", [0, 21, "three", True, 2.0])
def test_a_number_of_seeds_that_is_none_is_refused(tmp_path, count):
    questions = rows(20, 0)
    path = solution(tmp_path, questions, telling(questions), rankers=[trained(seeds=count)])
    with pytest.raises((ConfigError, KitError), match="seeds"):
        Experiment.open(CrossValidationSettings(path, folds=2, alike="words", out=tmp_path / "run"))
