"""The table of kinds: its recall is that of a brute force, its answers those of the pipeline."""

import json
import sys

import numpy as np
import pytest
from question_tables import first

from kaggle_rag.config import ContextSettings
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.metrics import map_at_k, ranks_of_answers
from kaggle_rag.index.index import Index
from kaggle_rag.rankers.similarity import SimilarityRanker
from kaggle_rag.retrieval.retriever import Retriever
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.sample import TRAIN
from wiki_index import __main__ as program


def call(*arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["wiki_index", *map(str, arguments)])
    return run_program(program.main)


def test_every_kind_has_a_row_with_its_recall_and_its_answers(
    sample_index, encoder, tmp_path, monkeypatch, capsys
):
    train = first(TRAIN, 40, tmp_path / "train.csv")
    flags = ["--questions", train, "--kinds", "flat,fp16,sq8,ivf-pq", "--json", tmp_path / "rows.json"]
    (tmp_path / "aside").mkdir()
    flags += ["--folder", tmp_path / "aside"]
    assert call("measure", sample_index, *flags, monkeypatch=monkeypatch) == 0
    rows = {row["kind"]: row for row in json.loads((tmp_path / "rows.json").read_text())["rows"]}
    # The sample is too small for lists: ivf-pq falls back on sq8, which has its row already.
    assert list(rows) == ["exact", "flat", "fp16", "sq8"]
    assert rows["exact"]["recall"] == rows["flat"]["recall"] == 1
    assert rows["fp16"]["recall"] > 0.99 and rows["sq8"]["recall"] > 0.97
    assert [rows[kind]["bytes_per_vector"] for kind in ("flat", "fp16", "sq8")] == [1536, 768, 384]
    questions, opened = Questions.read(train), Index(sample_index)
    contexts = Retriever(opened, encoder, ContextSettings())(questions)
    with SimilarityRanker(encoder, opened) as ranker:
        table = ranker.probabilities(questions, contexts)
    score = map_at_k(ranks_of_answers(table, questions.answers, questions.present))
    assert rows["flat"]["map3"] == pytest.approx(score, abs=1e-9)
    said = capsys.readouterr().out
    assert "| sq8 " in said and "not distinguishable" in said
    assert not list((tmp_path / "aside").iterdir())


def test_without_questions_halves_of_passages_are_asked(sample_index, tmp_path, monkeypatch, capsys):
    assert call("measure", sample_index, "--kinds", "sq8", "-k", "5", monkeypatch=monkeypatch) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(lines) == 4 and "MAP@3" not in lines[0]
    assert np.isclose(float(lines[2].split("|")[3]), 1.0)


def test_a_kind_that_there_is_not_is_refused(sample_index, monkeypatch, capsys):
    assert call("measure", sample_index, "--kinds", "flat,hnsw", monkeypatch=monkeypatch) == 2
    assert "no index kind 'hnsw'" in capsys.readouterr().err
