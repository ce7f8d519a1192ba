"""Nothing is recommended that its own figures call worse, taken over wrongly, or left out without a word."""

import dataclasses
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import ROWS

from kaggle_rag.config import RankerSettings
from kaggle_rag.data.questions import Questions
from kaggle_rag.ensembling.blending import FittedWeights
from kaggle_rag.evaluation.scaling import Calibration
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.retrieval.fusion import RetrieverScores
from kaggle_rag.runtime.errors import ArtifactError, run_program
from kaggle_rag.text.units import Unit
from training.crossval.diagnosis import DiagnosisReport, _refused
from training.crossval.final import found_by
from training.crossval.mixing import Mixture
from training.crossval.ranker_spec import RankerSpec
from wiki_index import __main__ as program
from wiki_index.build import build
from wiki_index.corpus import Corpus
from wiki_index.fit import Case, Setting, _recommend
from wiki_index.plan import Plan


def plan(corpus, out, tiny, **more):
    return Plan(Corpus.open(corpus), out, {"minilm": tiny}, Unit("sentence"), shard_rows=ROWS, **more)


@pytest.mark.parametrize("form", ["fp16", "int8"])
def test_vectors_are_taken_over_from_the_form_they_are_stored_in(form, corpus, tiny, tmp_path, monkeypatch):
    build(plan(corpus, tmp_path / "old", tiny, kind="sq8", vectors=form))
    encoded, encode = [], Encoder.encode_for_index
    monkeypatch.setattr(
        Encoder, "encode_for_index", lambda self, t, **more: encoded.extend(t) or encode(self, t, **more)
    )
    build(plan(corpus, tmp_path / "new", tiny, kind="sq8", vectors=form, reuse=tmp_path / "old"))
    # Only what the search is tuned by may be encoded, and that is asked as queries.
    assert encoded == []
    old, new = (tmp_path / name / "dense/minilm/vectors.npy" for name in ("old", "new"))
    assert old.read_bytes() == new.read_bytes()
    assert Index(tmp_path / "new").default.card.step == Index(tmp_path / "old").default.card.step
    with pytest.raises(ArtifactError, match=f"stored in {form}, which is coarser than the fp32.*") as told:
        build(plan(corpus, tmp_path / "fine", tiny, reuse=tmp_path / "old"))
    assert f"--vectors {form}" in str(told.value) and not (tmp_path / "fine.building").exists()


def test_why_vectors_are_not_taken_over_is_told(corpus, whole, tiny, tmp_path):
    other = types.SimpleNamespace(card=dataclasses.replace(tiny.card, max_tokens=7))
    with pytest.raises(ArtifactError, match="different max_tokens"):
        build(plan(corpus, tmp_path / "out", other, reuse=whole))


def test_a_part_of_a_corpus_is_built_and_is_not_taken_for_the_whole(
    corpus, tiny, tmp_path, monkeypatch, capsys
):
    command = ["wiki_index", "build", str(corpus), str(tmp_path / "out"), "--encoder", tiny.card.name]
    monkeypatch.setattr(sys, "argv", [*command, "--limit", "3"])
    assert run_program(program.main) == 0 and "PARTIAL" in capsys.readouterr().err
    assert Index(tmp_path / "out").manifest.articles == 3
    monkeypatch.setattr(sys, "argv", command)
    assert run_program(program.main) == 2 and "differs in corpus" in capsys.readouterr().err


def case(dense, words, right):
    """Two candidates; what each retriever scores them, and which answers."""
    opinions = {
        name: RetrieverScores(1.0, np.array(scores)[None], np.ones((1, 2), bool))
        for name, scores in (("dense", dense), ("bm25", words))
    }
    return Case(opinions, np.array(right))


def test_a_blend_that_held_out_questions_call_worse_is_not_recommended():
    alone = {name: Setting(((name, 1.0),), "weighted", "best") for name in ("dense", "bm25")}
    best = Setting((("dense", 0.1), ("bm25", 0.9)), "weighted", "best")
    misled = [case([0.9, 0.1], [0.1, 0.9], [True, False])] * 8
    setting, gain, refused = _recommend(best, alone, misled)
    assert setting == alone["dense"] and "dense alone" in refused and gain.startswith("-")
    helped = [case([0.9, 0.1], [0.1, 0.9], [False, True]), case([0.1, 0.9], [0.5, 0.5], [False, True])] * 4
    assert _recommend(best, alone, helped)[0] == best


def questions():
    rows = [{"id": n, "prompt": "p", "A": "x", "B": "y", "answer": "AB"[n % 2]} for n in range(10)]
    return Questions.from_rows(rows, "test")


def test_rankers_that_know_nothing_name_no_label_errors():
    asked = questions()
    right = np.eye(2)[asked.answers]
    assert _refused(0.2 + 0.6 * right, np.full(10, 0.5), asked, "contexts") == ""
    assert "no better than chance" in _refused(0.8 - 0.6 * right, np.full(10, 0.5), asked, "contexts")
    why = _refused(0.2 + 0.6 * right, np.full(10, -0.5), asked, "contexts")
    assert "-0.500 bits" in why
    assert "not listed: " + why in DiagnosisReport(asked, [], np.full(10, -0.5), "contexts", why).text()


def test_a_ranker_without_weight_is_neither_trained_nor_listed(tmp_path):
    entries = [
        RankerSpec(name, RankerSettings(kind="trained", options=options), None, {})
        for name, options in (("a", {"folder": "a"}), ("b", {"folder": str(tmp_path / "b")}))
    ]
    (tmp_path / "b").mkdir()
    (tmp_path / "base").mkdir()
    entries[1].settings.options["base"] = str(tmp_path / "base")
    weights = FittedWeights((0.0, 1.0), None, None, None, "", np.zeros((1, 2), np.float32))
    experiment = types.SimpleNamespace(specs=entries, paths=None, folder=tmp_path / "run")
    told = found_by(experiment, Mixture({}, weights, (Calibration(), Calibration()), None), experiment.folder)
    options = {"folder": str(Path("..") / "b"), "base": str(Path("..") / "base")}
    assert told == {"rankers": [{"kind": "trained", "weight": 1.0, "options": options}]}


def test_kinds_that_are_not_measured_are_named(whole, tiny, tmp_path, monkeypatch, capsys):
    command = ["wiki_index", "measure", str(whole), "--kinds", "flat,ivf-pq"]
    monkeypatch.setattr(sys, "argv", [*command, "--encoder", tiny.card.name])
    assert run_program(program.main) == 0
    assert "note: ivf-pq is not measured: 360 vectors are too few" in capsys.readouterr().err


def test_a_limit_of_a_training_takes_the_first_questions(tmp_path):
    from training.rankers.dataset import RankerDataset

    rows = [{"id": n, "prompt": f"p{n}", "A": "x", "B": "y", "answer": "AB"[n % 2]} for n in range(6)]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert RankerDataset.read(path, None, 4).questions.ids == (0, 1, 2, 3)
    assert len(RankerDataset.read(path, None, 99)) == 6
