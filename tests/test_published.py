"""The kit's own path against published figures, on real data (minutes: marked slow)."""

import csv
import gzip
import json
from collections import defaultdict

import numpy as np
import pytest

from kaggle_rag.config import ContextSettings
from kaggle_rag.metrics import map_at_k, ndcg_at_k, ranks_of_answers, recall_at_k
from kaggle_rag.questions import Questions
from kaggle_rag.rankers.similarity import SimilarityRanker
from kaggle_rag.retrieval.index import Index
from kaggle_rag.retrieval.retriever import Retriever
from kaggle_rag.retrieval.units import Unit
from wiki_index.build import build
from wiki_index.corpus import Corpus
from wiki_index.plan import Plan

pytestmark = pytest.mark.slow


def test_scifact_ndcg_is_the_published_one(shared, encoder, tmp_path):
    """MTEB: all-MiniLM-L6-v2 0.64508 nDCG@10, recall@100 0.925."""
    with gzip.open(shared / "scifact/corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(
        "".join(json.dumps({"id": r["_id"], "title": r["title"], "text": r["text"]}) + "\n" for r in rows)
    )
    build(
        Plan(
            Corpus.open(corpus), tmp_path / "index", {"minilm": encoder}, Unit("article"), title_in_text=True
        )
    )
    index = Index(tmp_path / "index")
    relevant = defaultdict(dict)
    with (shared / "scifact/qrels/test.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            relevant[row["query-id"]][row["corpus-id"]] = float(row["score"])
    with gzip.open(shared / "scifact/queries.jsonl.gz", "rt", encoding="utf-8") as file:
        queries = {q["_id"]: q["text"] for q in map(json.loads, file) if q["_id"] in relevant}
    assert len(queries) == 300
    _, found = index.search(encoder.encode_queries(list(queries.values())), 100)
    ids = [[passage.article_id for passage in index.passages.take(row)] for row in found]
    ndcg = np.mean([ndcg_at_k(row, relevant[q], 10) for q, row in zip(queries, ids)])
    recall = np.mean([recall_at_k(row, relevant[q], 100) for q, row in zip(queries, ids)])
    print(f"SciFact nDCG@10 {ndcg:.5f}, recall@100 {recall:.5f}")
    assert ndcg == pytest.approx(0.645, abs=0.005)
    assert recall == pytest.approx(0.925, abs=0.01)


def test_openbookqa_finds_the_fact_and_answers_without_training(shared, encoder, tmp_path):
    """A plain similarity gives MAP@3 0.589, no context 0.495, chance 0.458."""
    facts = [f for f in (shared / "openbook_facts.txt").read_text().splitlines() if f.strip()]
    corpus = tmp_path / "facts.jsonl"
    corpus.write_text("".join(json.dumps({"title": "", "text": fact}) + "\n" for fact in facts))
    build(Plan(Corpus.open(corpus), tmp_path / "index", {"minilm": encoder}, Unit("article")))
    index = Index(tmp_path / "index")
    path = shared / "mcq/openbookqa_dev.csv"
    questions = Questions.read(path)
    contexts = Retriever(index, encoder, ContextSettings())(questions)
    with path.open(newline="") as file:
        gold = [row["fact"].strip().lower() for row in csv.DictReader(file)]
    hits = [
        fact in [piece.text.strip().lower() for piece in found.evidence()[:10]]
        for fact, found in zip(gold, contexts)
    ]
    with SimilarityRanker(encoder, index) as ranker:
        table = ranker.probabilities(questions, contexts)
    score = map_at_k(ranks_of_answers(table, questions.answers, questions.present))
    print(f"OpenBookQA dev recall@10 {np.mean(hits):.3f}, MAP@3 {score:.4f}")
    assert np.mean(hits) >= 0.87
    assert score >= 0.60
