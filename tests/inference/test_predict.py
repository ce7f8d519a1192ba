"""``predict``: rankers over ready contexts, batch by batch, without a submission."""

import json
import shutil
import sys

import numpy as np
import pytest
from model_toys import tiny_model
from question_tables import first
from ranker_toys import backbone

from inference import __main__ as program
from inference import answering
from kaggle_rag.data.contexts import (
    Context,
    QuestionContexts,
    lines_as_snippets,
    read_contexts,
    write_contexts,
)
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.questions import Questions
from kaggle_rag.data.submission import read_submission
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.rankers.similarity import SimilarityRanker
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.sample import TEST, TEST_ANSWERS

COUNT, BATCH = 30, 8


@pytest.fixture
def small(monkeypatch):
    """Batches of eight questions."""
    monkeypatch.setattr(answering, "_BATCH", BATCH)


@pytest.fixture(scope="module")
def place(tiny, tmp_path_factory):
    """Questions, and contexts in another order."""
    folder = tmp_path_factory.mktemp("predict")
    questions = Questions.read(first(TEST, COUNT, folder / "q.csv"))
    first(TEST_ANSWERS, COUNT, folder / "answers.csv")
    texts = [lines_as_snippets(f"{prompt}\nIt is.") for prompt in questions.prompts]
    contexts = [QuestionContexts(Context(snippets, ()), ()) for snippets in texts]
    order = [*reversed(range(COUNT))]
    write_contexts(folder / "c.parquet", questions.take(order), [contexts[row] for row in order], {})
    return folder


@pytest.fixture
def predict(place, tiny, tmp_path, monkeypatch, capsys):
    """Called with flags: the exit code, and what was printed on stderr."""

    ready = ("--contexts-file", place / "c.parquet")

    def call(*flags, command="predict", out="p.predictions", contexts=ready, encoder=tiny.card.name):
        words = [command, "--questions", place / "q.csv", "--out", tmp_path / out, *contexts, *flags]
        words += ["--encoder", encoder, "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["inference", *map(str, words)])
        code = run_program(program.main)
        return code, capsys.readouterr().err

    return call


def rankers(*scores):
    return "--set", f"rankers={json.dumps([{'kind': 'similarity', 'options': {'score': s}} for s in scores])}"


def read(path, name):
    return Predictions.read(path).tables[name]


def test_each_ranker_leaves_the_probabilities_that_it_gives(small, place, tiny, predict, tmp_path):
    code, said = predict(*rankers("novel", "best_option"))
    assert code == 0 and said.count("rank: similarity") == 2, said
    questions, encoder = Questions.read(place / "q.csv"), Encoder(tiny.card.name, device="cpu")
    contexts = read_contexts(place / "c.parquet", questions)
    for name, score in [("similarity", "novel"), ("similarity-2", "best_option")]:
        stored = Predictions.read(tmp_path / "p.predictions" / f"{name}.parquet")
        with SimilarityRanker(encoder, score=score) as ranker:
            expected = ranker.probabilities(questions, contexts)
        assert stored.marks == tuple(questions.fingerprints())
        assert np.allclose(stored.tables[name], expected, atol=1e-5)
    assert not [*(tmp_path / "p.predictions").glob(".*.batches")]


def test_a_killed_run_asks_only_what_is_missing(small, predict, tmp_path, monkeypatch):
    assert predict(*rankers("novel"), out="whole.predictions")[0] == 0
    written, write = [], answering.write_answers

    def counted(path, name, questions, table):
        if len(written) == 2:
            raise KeyboardInterrupt
        write(path, name, questions, table)
        written.append(len(questions))

    monkeypatch.setattr(answering, "write_answers", counted)
    assert predict(*rankers("novel"))[0] == 130
    assert not (tmp_path / "p.predictions" / "similarity.parquet").exists()
    # The limit of two is passed: a third batch of this run is the second of the next one.
    written[:] = [0] * 10
    assert predict(*rankers("novel"))[0] == 0
    assert written[10:] == [8, 6]
    one, other = (tmp_path / f"{name}.predictions" / "similarity.parquet" for name in ("p", "whole"))
    assert one.read_bytes() == other.read_bytes()
    stamp = one.stat().st_mtime_ns
    code, said = predict(*rankers("novel"))
    assert code == 0 and "all 30 answers were there already" in said and one.stat().st_mtime_ns == stamp


def test_predictions_of_something_else_are_never_replaced(small, predict, place, tmp_path):
    assert predict(*rankers("novel"))[0] == 0
    before = (tmp_path / "p.predictions" / "similarity.parquet").read_bytes()
    for flags, more, said in [
        (rankers("best_option"), {}, "other settings already exist"),
        (rankers("novel"), {"contexts": ["--without-contexts"]}, "already exists, and differs in contexts"),
        ((*rankers("novel"), "--limit", "9"), {}, "already exists, and differs in limit"),
    ]:
        code, error = predict(*flags, **more)
        assert code == 2 and said in error and error.count("error:") == 1, error
        assert (tmp_path / "p.predictions" / "similarity.parquet").read_bytes() == before


def test_a_submission_clears_away_nothing_that_was_predicted(small, predict, place, tmp_path):
    """``submit`` of other settings beside them would start its own folder over."""
    assert predict(*rankers("novel"))[0] == 0
    before = (tmp_path / "p.predictions" / "similarity.parquet").read_bytes()
    (tmp_path / "p.csv").write_text("id,prediction\nmine,A B C\n")
    for check in ([], ["--check"]):
        given = {"command": "submit", "out": "p.csv", "contexts": ["--without-contexts"]}
        code, said = predict(*rankers("novel"), *check, **given)
        assert code == 2 and "differs in contexts" in said and "unfinished" not in said, said
    assert (tmp_path / "p.predictions" / "similarity.parquet").read_bytes() == before
    # Nor is what was handed in before replaced by a guess.
    assert (tmp_path / "p.csv").read_text() == "id,prediction\nmine,A B C\n"


def test_answers_that_submit_gave_and_predict_found_there_are_kept(small, predict, place, tmp_path):
    assert predict(*rankers("novel"), command="submit", out="p.csv")[0] == 0
    code, said = predict(*rankers("novel"))
    assert code == 0 and "there already" in said, said
    before = (tmp_path / "p.predictions" / "similarity.parquet").read_bytes()
    code, _ = predict(*rankers("novel"), command="submit", out="p.csv", contexts=["--without-contexts"])
    assert code == 2 and (tmp_path / "p.predictions" / "similarity.parquet").read_bytes() == before


def test_an_encoder_that_was_trained_anew_answers_anew(small, predict, tiny, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny.card.name, tmp_path / "mine")
    words = (*rankers("novel"), "--set", f"encoder={folder}")
    assert predict(*words, command="submit", out="s.csv", encoder=folder)[0] == 0
    assert "there already" in predict(*words, command="submit", out="s.csv", encoder=folder)[1]
    other = tiny_model(tmp_path / "other", seed=5)
    shutil.copyfile(other / "model.safetensors", folder / "model.safetensors")
    assert "there already" not in predict(*words, command="submit", out="s.csv", encoder=folder)[1]


def test_trained_rankers_need_no_encoder(small, predict, place, tmp_path, monkeypatch):
    """With contexts that are ready nothing is encoded, wherever the encoder is."""
    monkeypatch.setattr("kaggle_rag.rankers.resources.Encoder", lambda *given, **more: 1 / 0)
    options = {"folder": str(backbone("llama", tmp_path / "llama")), "form": "options", "max_tokens": 32}
    ranker = "--set", f"rankers={json.dumps([{'kind': 'trained', 'options': {**options, 'device': 'cpu'}}])}"
    code, said = predict(*ranker, command="submit", out="s.csv", encoder="nowhere/at-all")
    assert code == 0 and "FAILED" not in said, said


def test_submit_and_blend_take_the_predictions_up(small, predict, place, tmp_path, monkeypatch, capsys):
    assert predict(*rankers("novel"))[0] == 0
    code, said = predict(*rankers("novel"), command="submit", out="p.csv")
    assert code == 0 and "similarity: all 30 answers were there already" in said, said
    blend = ["blend", tmp_path / "p.predictions", "--out", tmp_path / "blend.csv"]
    report = ["report", tmp_path / "p.predictions", "--questions", place / "q.csv"]
    report += ["--out", tmp_path / "r.html"]
    for words in (blend, report):
        monkeypatch.setattr(sys, "argv", ["inference", *map(str, words)])
        assert run_program(program.main) == 0, capsys.readouterr().err
    assert read_submission(tmp_path / "blend.csv") == read_submission(tmp_path / "p.csv")


def test_bad_input_is_one_message_and_writes_nothing(predict, place, tmp_path):
    (tmp_path / "file").touch()
    for flags, more, said in [
        ((), {"contexts": ()}, "nothing to answer from"),
        ((), {"out": "p.csv"}, "the name of a file"),
        ((), {"out": "file"}, "a file exists where a folder is needed"),
        ((), {"contexts": ("--contexts-file", place / "q.csv")}, "column 'context' is missing"),
        ((), {"contexts": ("--contexts-file", place / "none.parquet")}, "no such file"),
        (rankers("magic"), {}, "no score 'magic'"),
        (("--ray-address", "auto"), {}, "add --workers ray"),
    ]:
        code, error = predict(*flags, **more)
        assert code == 2 and said in error and error.count("error:") == 1 and "Traceback" not in error, error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_predict_does_not_use_is_told(small, predict):
    code, said = predict(*rankers("novel"), "--set", "limits.time=1h", "--set", "blend=ranks")
    assert code == 0
    assert "limits.time has no effect" in said and "blend has no effect: predict does not read" in said
