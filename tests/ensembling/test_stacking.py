import builtins

import numpy as np
import pytest
from question_tables import questions, ranker
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kaggle_rag.ensembling.stacking import KINDS, Stack, fit_stack, option_features
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError


def test_features_of_a_hand_worked_row():
    present = np.array([[True, True, True, False]])
    table = np.array([[0.5, 0.2, 0.3, 0.0]], np.float32)
    features, names = option_features({"m": table}, present, {"cosine": np.array([[0.9, np.nan, 0.1, 7]])})
    assert names == ("m: probability", "m: reciprocal rank", "m: margin", "m: entropy", "cosine")
    entropy = -(0.5 * np.log(0.5) + 0.2 * np.log(0.2) + 0.3 * np.log(0.3)) / np.log(3)
    expected = [[0.5, 1, 0.2, entropy, 0.9], [0.2, 1 / 3, -0.3, entropy, 0], [0.3, 1 / 2, -0.2, entropy, 0.1]]
    assert features[0, :3] == pytest.approx(np.array(expected), abs=1e-6)
    with pytest.raises(InputError, match="'cosine' has the shape"):
        option_features({"m": table}, present, {"cosine": np.zeros((1, 3))})


def toy(count=600):
    """Two rankers, of which one is right where the other is unsure."""
    right, present = questions(count)
    present[::3, 4] = False
    right = np.where(~present[:, 4] & (right == 4), 0, right)
    tables = {"a": ranker(right, 1.5, 1), "b": ranker(right, 0.2, 2)}
    tables = {name: np.where(present, table, 0) for name, table in tables.items()}
    return {n: (t / t.sum(1, keepdims=True)).astype(np.float32) for n, t in tables.items()}, right, present


OTHER = {
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "boosted": lambda: GradientBoostingClassifier(
        n_estimators=100, learning_rate=0.05, max_depth=3, min_samples_leaf=20, subsample=0.5, random_state=0
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_kept_arrays_say_what_scikit_learn_says(kind, tmp_path):
    tables, right, present = toy()
    fitted = fit_stack(tables, right, present, kind=kind)
    features, _ = option_features(tables, present)
    labels = np.arange(5) == right[:, None]
    theirs = OTHER[kind]().fit(features[present], labels[present])
    odds = np.where(present, -np.inf, -np.inf)
    odds[present] = theirs.decision_function(features[present])
    expected = np.exp(odds - odds.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    fitted.stack.save(tmp_path / "stack.npz")
    again = Stack.load(tmp_path / "stack.npz")
    assert again.probabilities(features, present) == pytest.approx(expected, abs=1e-4)
    assert np.array_equal(
        again.probabilities(features, present), fitted.stack.probabilities(features, present)
    )
    assert (again.kind, again.features) == (kind, fitted.stack.features)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_beats_the_equal_blend_where_one_ranker_is_noise(kind):
    fitted = fit_stack(*toy(1500), kind=kind)
    assert fitted.comparison.difference.low > 0
    assert fitted.held_out.sum(axis=1) == pytest.approx(1)


def test_held_out_questions_are_not_learnt():
    """A score that tells the answer in one fold only helps none of the others."""
    tables, right, present = toy()
    folds = np.arange(600) % 2
    told = np.where((folds == 0)[:, None], np.arange(5) == right[:, None], 0.0)
    blind = fit_stack(tables, right, present, folds=folds).held_out
    fitted = fit_stack(tables, right, present, scores={"told": told}, folds=folds)
    # Fold 0 is read by a stack that saw nothing but zeros in that column.
    assert fitted.held_out[folds == 0] == pytest.approx(blind[folds == 0], abs=1e-3)


def test_what_cannot_be_stacked_is_refused(monkeypatch):
    tables, right, present = toy(60)
    with pytest.raises(ConfigError, match="one of logistic, boosted"):
        fit_stack(tables, right, present, kind="forest")
    with pytest.raises(InputError, match="features of shape"):
        fit_stack(tables, right, present).stack.probabilities(np.zeros((60, 5, 3)), present)
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("sklearn"):
            raise ImportError("no", name="sklearn")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="not installed"):
        fit_stack(tables, right, present)


def test_a_damaged_file_is_said_to_be_one(tmp_path):
    path = tmp_path / "stack.npz"
    fitted = fit_stack(*toy(60)).stack
    fitted.save(path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="not a stack"):
            Stack.load(path)
    np.savez(path, head=np.array('{"format": "other", "kind": "logistic", "features": []}'))
    with pytest.raises(ArtifactError, match=r"(?s)not a stack.*kaggle-rag stack"):
        Stack.load(path)
    np.savez(path, head=np.array({"a": object()}, dtype=object))
    with pytest.raises(ArtifactError, match="not a stack"):
        Stack.load(path)
    with pytest.raises(ArtifactError):
        Stack.load(tmp_path / "none.npz")
