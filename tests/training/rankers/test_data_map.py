"""A data map is what the weights of each epoch say of the labels; killed and resumed, the same."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from interrupts import stop_at
from ranker_toys import COMMANDS, WORDS, backbone, files, rows

from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.data_maps import FILE, read_data_map
from kaggle_rag.rankers.trained import TrainedRanker
from kaggle_rag.runtime.errors import ArtifactError
from training.loop.trainer import Progress
from training.rankers.settings import RankerRun
from training.rankers.train import train_ranker

COUNT = 24


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A training whose epochs are a step each, at one rate, no dropout, of a model that knows a little."""
    folder = tmp_path_factory.mktemp("task")
    questions, contexts = files(folder, "train", rows(COUNT, 0, words=WORDS[:6]))
    settings = {
        "questions": questions, "contexts_file": contexts,
        "batch": COUNT, "max_tokens": 48, "device": "cpu", "held_out": 0, "warmup": 0,
        "schedule": "constant_with_warmup", "learning_rate": 3e-3,
    }  # fmt: skip
    model = str(backbone("bert", folder / "bert"))
    known = trained(settings, folder / "known", model=model, epochs=9, batch=4)
    assert of_labels(settings, known)[0].std() > 0.05
    return {**settings, "model": str(known)}


def trained(told, out, kind="bert", **changes):
    train_ranker(COMMANDS[kind], RankerRun(**{**told, **changes}, out=out))
    return out


def found(told, out):
    return read_data_map(out / FILE, Questions.read(told["questions"]))


def of_labels(told, folder):
    """What a finished ranker says of the labels, as inference asks it, and whether it is right."""
    questions = Questions.read(told["questions"])
    with TrainedRanker(str(folder), device="cpu") as ranker:
        table = ranker.probabilities(questions, read_contexts(told["contexts_file"], questions))
    answers = questions.answers
    return table[np.arange(COUNT), answers], table.argmax(axis=1) == answers


def test_the_map_is_what_the_weights_before_each_epoch_say(told, tmp_path):
    """The training pass of an epoch of one step is one of the weights that the epoch before has left."""
    before = [
        trained(told, tmp_path / "0", epochs=1, learning_rate=1e-12),
        trained(told, tmp_path / "1", epochs=1),
        trained(told, tmp_path / "2", epochs=2),
    ]
    likely, right = (np.stack(each) for each in zip(*(of_labels(told, folder) for folder in before)))
    recorded = found(told, trained(told, tmp_path / "map", epochs=3, data_map=True))
    assert likely.std(axis=0).max() > 0.01
    np.testing.assert_allclose(recorded.confidence, likely.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(recorded.variability, likely.std(axis=0), atol=1e-4)
    np.testing.assert_allclose(recorded.correctness, right.mean(axis=0), atol=1e-9)
    assert set(recorded.epochs) == {3}
    assert not (before[0] / FILE).exists()


PASSES = {"r_drop": 0.5, "adversarial": "awp", "adversarial_from": 0.0, "adversarial_size": 0.5}


def test_second_passes_of_a_step_are_not_counted(told, tmp_path):
    plain = found(told, trained(told, tmp_path / "plain", epochs=1, data_map=True))
    other = found(told, trained(told, tmp_path / "passes", epochs=1, data_map=True, **PASSES))
    np.testing.assert_allclose(other.confidence, plain.confidence, atol=1e-6)
    assert set(other.epochs) == {1}


@pytest.mark.parametrize(
    "changes", [{"none_of_above": 0.5}, {"no_context": 0.5}, {"drop_best": 0.5}], ids=lambda c: next(iter(c))
)
def test_what_an_epoch_changes_is_not_counted(changes, told, tmp_path):
    """At no rate worth the name, every counted epoch says what the untrained weights say of the question."""
    settings = {"epochs": 4, "learning_rate": 1e-12, "data_map": True}
    recorded = found(told, trained(told, tmp_path / "map", **settings, **changes))
    likely, _ = of_labels(told, tmp_path / "map")
    counted = recorded.epochs > 0
    np.testing.assert_allclose(recorded.confidence[counted], likely[counted], atol=1e-5)
    # 96 draws by halves: 48 by chance, and 25 is 4.7 standard deviations below.
    assert 25 < recorded.epochs.sum() < 71


def test_dropped_snippets_are_counted_as_dropout_is(told, tmp_path):
    recorded = found(told, trained(told, tmp_path / "map", epochs=2, data_map=True, drop_snippets=0.5))
    assert set(recorded.epochs) == {2}


def test_a_killed_run_keeps_the_epochs_before(told, tmp_path, monkeypatch):
    settings = {"epochs": 3, "batch": 8, "evaluations": 3, "data_map": True, "ema": 0.9}
    whole = trained(told, tmp_path / "whole", **settings)
    # Between two checkpoints of the second epoch.
    monkeypatch.setattr(Progress, "on_step_end", stop_at(5))
    with pytest.raises(KeyboardInterrupt):
        trained(told, tmp_path / "killed", **settings)
    monkeypatch.undo()
    again = trained(told, tmp_path / "killed", **settings)
    assert pq.read_table(again / FILE).equals(pq.read_table(whole / FILE))
    assert set(found(told, again).epochs) == {3}
    assert not list(again.glob("dynamics*"))


def test_a_run_without_a_map_is_not_taken_for_one_with_it(told, tmp_path):
    trained(told, tmp_path / "out", epochs=1)
    with pytest.raises(ArtifactError, match="which differs in data_map"):
        trained(told, tmp_path / "out", epochs=1, data_map=True)


def test_a_checkpoint_without_its_record_is_refused(told, tmp_path, monkeypatch):
    settings = {"epochs": 3, "data_map": True}
    monkeypatch.setattr(Progress, "on_step_end", stop_at(2))
    with pytest.raises(KeyboardInterrupt):
        trained(told, tmp_path / "out", **settings)
    monkeypatch.undo()
    for path in (tmp_path / "out.training").glob("checkpoint-*/dynamics.safetensors"):
        path.unlink()
    with pytest.raises(ArtifactError, match="does not have what data_map records"):
        trained(told, tmp_path / "out", **settings)


@pytest.mark.parametrize(
    "kind, settings",
    [("llama", {"form": "binary"}), ("bert", {"form": "bi-encoder"}), ("llama", {"form": "options"}),
     ("bert", {"marginal": {"kind": "sequence"}})],
)  # fmt: skip
def test_every_form_is_recorded(kind, settings, told, tmp_path):
    """Untrained weights again: the training's batch and the ranker's are the same numbers."""
    model = str(backbone(kind, tmp_path / kind))
    settings = {**settings, "model": model, "epochs": 1, "learning_rate": 1e-12, "data_map": True}
    recorded = found(told, trained(told, tmp_path / "map", kind, **settings))
    np.testing.assert_allclose(recorded.confidence, of_labels(told, tmp_path / "map")[0], atol=1e-4)
