"""Questions to contexts to answers, on a small index of the sample encyclopedia's kind."""

import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from question_tables import ROWS, first

from inference import __main__ as program
from kaggle_rag.config import ContextSettings
from kaggle_rag.data.contexts import NOTES, OWN, read_contexts, write_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.index.index import Index
from kaggle_rag.rankers.base import Ranker
from kaggle_rag.rankers.registry import make_ranker
from kaggle_rag.rankers.similarity import SCORES, SimilarityRanker, Views, bm25, novel
from kaggle_rag.retrieval.retriever import Retriever
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError, run_program
from kaggle_rag.sample import ARTICLES, TEST, TEST_ANSWERS, TRAIN
from kaggle_rag.text.units import Unit
from wiki_index.corpus import Corpus


@pytest.fixture(scope="module")
def index(facts_index):
    return facts_index


@pytest.fixture(scope="module")
def questions():
    return Questions.from_rows(ROWS, "test")


def find(index, encoder, questions, **settings):
    return Retriever(Index(index), encoder, ContextSettings(**settings))(questions)


def test_distances_are_exact_and_name_the_nearest_query(index, encoder, questions):
    found = find(index, encoder, questions.take([0]), near_duplicate=0.0, neighbours=0)[0].shared
    opened = Index(index)
    asked = {"all": "Titan Phobos Europa", "A": "Titan", "B": "Phobos", "C": "Europa"}
    queries = encoder.encode_queries([f"{ROWS[0]['prompt']} {text}" for text in asked.values()])
    for piece in found.evidence:
        gaps = np.linalg.norm(queries.astype(float) - opened.vectors(np.array([piece.row])), axis=1)
        assert piece.distance == pytest.approx(gaps.min(), abs=1e-9)
        assert piece.query == list(asked)[int(gaps.argmin())]
    assert found.evidence[0].text == "Phobos is the larger moon of Mars."
    distances = [piece.distance for piece in found.evidence]
    assert distances == sorted(distances)


def test_near_duplicates_are_dropped(index, encoder, questions):
    pieces = find(index, encoder, questions.take([1]))[0].evidence()
    assert sum(piece.text == "Copper melts at 1,085 °C." for piece in pieces) == 1


def test_an_instruction_is_also_asked_by_its_options_alone(index, encoder, questions):
    found = find(index, encoder, questions, keep=50)
    assert {p.query for p in found[1].evidence()} & {"bare A", "bare C"}
    assert not any(p.query.startswith("bare") for p in found[0].evidence())


def test_a_context_of_its_own_is_used_and_not_the_index(index, encoder, questions):
    own = find(index, encoder, questions)[2].shared
    assert own.text == ROWS[2]["context"]
    assert {p.article_id for p in own.evidence} == {OWN} and "eight eyes" in own.evidence[0].text
    ignored = find(index, encoder, questions, own="ignore")[2].shared
    assert "honey bee" in ignored.text
    cut = find(index, encoder, questions.take([2]), own="keep", tokens=16)[0].shared
    assert encoder.count_tokens([cut.text])[0] <= 16 and cut.text


def test_one_context_an_option_holds_what_speaks_for_it(index, encoder, questions):
    found = find(index, encoder, questions, per="option", keep=1, neighbours=0)
    assert found[0].shared is None and found[1].of(1) is None
    assert "Phobos" in found[0].of(1).text
    assert all(len(found[0].of(option).evidence) == 1 for option in range(3))


@pytest.mark.parametrize("per", ["question", "option"])
def test_contexts_round_trip_and_strangers_are_refused(per, index, encoder, questions, tmp_path):
    found = find(index, encoder, questions, per=per)
    path = tmp_path / "contexts.parquet"
    write_contexts(path, questions, found, {})
    assert read_contexts(path, questions) == found
    stranger = Questions.from_rows([{**ROWS[0], "id": 9}], "test")
    with pytest.raises(ArtifactError, match="no context for the question '9'"):
        read_contexts(path, stranger)
    write_contexts(path, questions.take([0, 0]), [found[0]] * 2, {})
    with pytest.raises(InputError, match="two rows for the question"):
        read_contexts(path, questions.take([0]))


def test_the_ranker_reads_vectors_from_the_index_or_makes_them_alike(index, encoder, questions):
    found = find(index, encoder, questions)
    with make_ranker("similarity", {}, encoder=encoder, index=Index(index)) as ranker:
        assert isinstance(ranker, Ranker)
        table = ranker.probabilities(questions, found)
    with SimilarityRanker(encoder) as ranker:
        assert np.allclose(table, ranker.probabilities(questions, found), atol=1e-4)
    assert table.dtype == np.float32 and np.allclose(table.sum(axis=1), 1)
    assert table[1, 1] == 0 and table.argmax(axis=1).tolist() == [1, 2, 2]


def test_rows_of_another_index_are_not_taken_for_this_one_s(index, encoder, questions):
    """A contexts file may be of an earlier build: its texts then stand at other rows, or beyond the last."""
    found = find(index, encoder, questions)

    def moved(context, by):
        return context._replace(evidence=tuple(e._replace(row=e.row + by) for e in context.evidence))

    with SimilarityRanker(encoder) as ranker:
        expected = ranker.probabilities(questions, found)
    for by in (1, 10_000):
        others = [each._replace(shared=moved(each.shared, by)) for each in found]
        with make_ranker("similarity", {}, encoder=encoder, index=Index(index)) as ranker:
            np.testing.assert_allclose(ranker.probabilities(questions, others), expected, atol=1e-4)


def test_bad_ranker_settings_are_named(encoder):
    for kind, options, said in [("magic", {}, "similarity"), ("similarity", {"scor": 1}, "temperature"),
                                ("similarity", {"score": "x"}, "novel"),
                                ("similarity", {"temperature": 0}, "above 0")]:  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            make_ranker(kind, options, encoder=encoder)


def views(seed=0):
    rng = np.random.default_rng(seed)
    unit = [
        v / np.linalg.norm(v, axis=-1, keepdims=True)
        for v in (
            rng.normal(size=8),
            rng.normal(size=(3, 8)),
            rng.normal(size=(3, 8)),
            rng.normal(size=(5, 8)),
        )
    ]
    texts = ["red iron", "blue glass", "green"], ["iron is red", "glass", "the sea is blue", "", "iron iron"]
    return Views(*unit, *texts)  # fmt: skip


def test_the_default_score_is_its_formula_written_as_a_loop():
    q = views()
    for option, score in enumerate(novel(q)):
        both, prompt = q.both[option], q.prompt
        rest = both - (both @ prompt) * prompt
        agreement = []
        for s in q.evidence:
            said = s - (s @ prompt) * prompt
            agreement.append((s @ prompt) * (said @ rest) / np.linalg.norm(said) / np.linalg.norm(rest))
        best = max(s @ both for s in q.evidence)
        expected = best + 0.5 * max(agreement) - 0.5 * both @ prompt + 0.25 * q.options[option] @ prompt
        assert score == pytest.approx(expected, abs=1e-6)


def test_bm25_agrees_with_hand_worked_counts():
    scores = bm25(views())
    # 'green' is nowhere; 'red iron' is best in 'iron is red', which holds both words.
    lengths, n = [3, 1, 4, 1, 2], 5
    norm = 1.2 * (0.25 + 0.75 * 3 / (sum(lengths) / n))
    idf = {"red": np.log(1 + (n - 1 + 0.5) / 1.5), "iron": np.log(1 + (n - 2 + 0.5) / 2.5)}
    assert scores[2] == 0
    assert scores[0] == pytest.approx((idf["red"] + idf["iron"]) / (1 + norm))


def test_every_score_gives_one_number_an_option():
    for name, score in SCORES.items():
        assert score(views()).shape == (3,) and np.isfinite(score(views())).all(), name


def test_the_sample_is_what_it_promises():
    from kaggle_rag.text.units import Splitter

    train, test = Questions.read(TRAIN), Questions.read(TEST)
    articles = list(Corpus.open(ARTICLES).articles())
    assert len(articles) >= 80 and sum(len(Splitter(Unit("sentence"))(a.text)) for a in articles) >= 900
    assert len(train) == 100 and len(test) >= 50 and train.width == test.width == 4
    assert set(np.bincount(train.answers)) == {25} and not test.has_answers
    lengths = np.array([[len(option) for option in row] for row in train.options])
    right = lengths[np.arange(100), train.answers]
    # Always taking the one longest option would not pay, and right ones are as long as the others.
    assert ((lengths == lengths.max(axis=1, keepdims=True)).sum(axis=1) == 1)[
        right == lengths.max(axis=1)
    ].sum() < 35
    assert 0.95 < right.mean() / lengths.mean() < 1.05
    assert len(train.prompts) == len(set(train.prompts) | set(test.prompts)) - len(set(test.prompts))


def call(*arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["inference", *map(str, arguments)])
    return run_program(program.main)


def test_contexts_of_a_version_without_a_setting_are_those_of_its_default(
    sample_index, tmp_path, monkeypatch, capsys
):
    contexts, questions = tmp_path / "c.parquet", first(TEST, 3, tmp_path / "test.csv")
    command = ["contexts", "--questions", questions, "--index", sample_index, "--out", contexts]
    assert call(*command, monkeypatch=monkeypatch) == 0
    table = pq.read_table(contexts)
    notes = json.loads(table.schema.metadata[NOTES])
    del notes["contexts"]["nprobe"]
    pq.write_table(table.replace_schema_metadata({NOTES: json.dumps(notes)}), contexts)
    assert call(*command, monkeypatch=monkeypatch) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert call(*command, "--set", "contexts.hits=3", monkeypatch=monkeypatch) == 2
    assert "contexts with other settings already exist" in capsys.readouterr().err


def test_questions_to_a_scored_submission(sample_index, tmp_path, monkeypatch, capsys):
    contexts, out, blind = (tmp_path / name for name in ("c.parquet", "s.csv", "blind.csv"))
    questions, answers = (first(path, 40, tmp_path / path.name) for path in (TEST, TEST_ANSWERS))
    ask = ["--questions", questions, "--index", sample_index]
    assert call("contexts", *ask, "--out", contexts, monkeypatch=monkeypatch) == 0
    stamp = contexts.stat().st_mtime_ns
    assert call("contexts", *ask, "--out", contexts, monkeypatch=monkeypatch) == 0
    assert contexts.stat().st_mtime_ns == stamp and "nothing to do" in capsys.readouterr().out
    submit = ["submit", "--questions", questions]
    assert call(*submit, "--contexts-file", contexts, "--out", out, monkeypatch=monkeypatch) == 0
    # A ranker without weight costs nothing.
    silent = "rankers=[{kind: similarity}, {kind: similarity, weight: 0}]"
    capsys.readouterr()
    assert call(*submit, "--without-contexts", "--out", blind, "--set", silent, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().err.count("rank: similarity: ") == 1
    results = []
    for path in (out, blind):
        assert call("score", path, answers, "--json", monkeypatch=monkeypatch) == 0
        results.append(json.loads(capsys.readouterr().out))
    seen, unseen = results
    # Clearly above: the intervals do not touch; and half the questions need the encyclopedia.
    assert seen["low"] > unseen["high"] and unseen["accuracy"] < 0.5
    assert seen["questions"] == 40


def test_ask_shows_letters_probabilities_and_what_decided(sample_index, monkeypatch, capsys):
    words = ["--prompt", "What is Timsort's worst-case time?", "--option", "O(n log n)", "--option", "O(n!)"]
    assert call("ask", "--index", sample_index, *words, "--json", monkeypatch=monkeypatch) == 0
    said = json.loads(capsys.readouterr().out)
    assert sorted(row["letter"] for row in said["ranking"]) == ["A", "B"]
    assert sum(row["probability"] for row in said["ranking"]) == pytest.approx(1, abs=1e-5)
    assert said["evidence"] and all("Timsort" in e["title"] + e["text"] for e in said["evidence"][:1])
    assert call("ask", "--index", sample_index, *words, monkeypatch=monkeypatch) == 0
    assert "%" in capsys.readouterr().out


def test_bad_input_leaves_nothing_behind(sample_index, tmp_path, monkeypatch, capsys):
    out = tmp_path / "s.csv"
    sample = tmp_path / "sample.csv"
    sample.write_text("id,prediction\nx,A B C\n")
    bad = tmp_path / "bad.csv"
    bad.write_text("id,prompt,A,B\n1,p,x,\n")
    for arguments, said in [
        (["--questions", tmp_path / "none.csv", "--index", sample_index], "no such file"),
        (["--questions", bad, "--index", sample_index, "--strict"], "1 option"),
        (["--questions", TEST], "nothing to answer from"),
        (["--questions", TEST, "--index", tmp_path], "no manifest.json"),
        (["--questions", TEST, "--index", sample_index, "--sample", sample], "same ids"),
        (["--questions", TEST, "--index", sample_index, "--ram", "1MB"], "raise limits.ram"),
        (["--questions", TEST, "--index", sample_index, "--set", "contexts.per=page"], "contexts.per"),
    ]:
        assert call("submit", *arguments, "--out", out, monkeypatch=monkeypatch) == 2
        assert said in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.csv", "sample.csv"]
