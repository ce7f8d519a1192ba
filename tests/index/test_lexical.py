"""BM25 parts against bm25s's own retrieval, and exact scores of given passages."""

import dataclasses

import bm25s
import numpy as np
import pytest
from conftest import write_corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import tiny_model

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.index.lexical import Lexical, part_name, tokenizer, write_part
from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.text.normalise import words
from kaggle_rag.text.units import Unit
from wiki_index.build import build
from wiki_index.corpus import Corpus
from wiki_index.plan import Plan

METALS = ["iron", "gold", "zinc", "copper", "tin"]
PASSAGES = [
    f"{METALS[n % 5].title()} number {n} was weighed at {n * 7 % 31} grams in {1900 + n}; it "
    + ("rusted in wet air." if n % 3 else "kept its shine for years.")
    for n in range(200)
]
QUERIES = ["Which metal rusts in wet air?", "gold 1941 grams", "the of and", "quasar", "shine shine zinc"]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    write_part(folder / part_name(0), iter(PASSAGES))
    return folder


def test_scores_and_order_are_those_of_bm25s_itself(one):
    scores, rows = Lexical(one, [200]).search(QUERIES, 20)
    own = bm25s.BM25.load(one / part_name(0))
    split = tokenizer()
    split.tokenize(PASSAGES, update_vocab=True, show_progress=False)
    for query, mine, places in zip(QUERIES, scores, rows):
        tokens = split.decode(
            split.tokenize([query], update_vocab=False, show_progress=False, allow_empty=False)
        )[0]
        every = own.get_scores(tokens) if tokens else np.zeros(200, dtype=np.float32)
        assert np.allclose(mine, np.sort(every)[::-1][:20], atol=1e-5)
        assert np.allclose(every[places[places >= 0]], mine[places >= 0], atol=1e-5)
        assert (mine[places < 0] == 0).all()


@pytest.mark.parametrize("copies", [3, 40])
def test_of_equal_scores_the_first_of_the_corpus_are_found(tmp_path, copies):
    texts = [f"Copper {n} conducts." if n % 5 else "It is found in Brazil." for n in range(5 * copies)]
    write_part(tmp_path / part_name(0), iter(texts))
    _, rows = Lexical(tmp_path, [len(texts)]).search(["found in Brazil", "copper"], 2)
    assert rows.tolist() == [[0, 5], [1, 2]]


def test_a_passage_of_another_part_is_found_at_its_own_row(tmp_path):
    write_part(tmp_path / part_name(0), iter(PASSAGES[:150]))
    write_part(tmp_path / part_name(1), iter(PASSAGES[150:]))
    lexical = Lexical(tmp_path, [150, 50])
    _, rows = lexical.search(["weighed in 2083", "weighed in 1903"], 1)
    assert rows.tolist() == [[183], [3]] and len(lexical) == 200


def test_scores_of_given_passages_are_those_of_the_search(one):
    lexical = Lexical(one, [200])
    scores, rows = lexical.search(QUERIES, 30)
    for query, mine, places in zip(QUERIES, scores, rows):
        there = places >= 0
        assert np.allclose(lexical.scores(query, places[there]), mine[there], atol=1e-6)
    assert lexical.scores("quasar", np.arange(5)).tolist() == [0] * 5


def test_two_makings_of_a_part_are_equal_byte_for_byte(one, tmp_path):
    write_part(tmp_path / "again", iter(PASSAGES))
    for path in (one / part_name(0)).iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_other_languages_have_their_own_stems_and_unknown_ones_their_words(tmp_path):
    write_part(tmp_path / "de" / part_name(0), iter(["Die Metalle rosten.", "Das Gold glänzt."]), "de")
    assert Lexical(tmp_path / "de", [2], "de").search(["ein Metall rostet"], 1)[1].tolist() == [[0]]
    write_part(tmp_path / "xx" / part_name(0), iter(["metalo rustas", "oro brilas"]), "eo")
    assert Lexical(tmp_path / "xx", [2], "eo").search(["brilas"], 1)[1].tolist() == [[1]]


def test_words_of_scripts_without_spaces_are_found(tmp_path):
    passages = ["金属会生锈。", "水的沸点是一百度。", "光速 c 是每秒299792458米"]
    write_part(tmp_path / part_name(0), iter(passages), "zh")
    found = Lexical(tmp_path, [3], "zh").search(["水的沸点是多少", "生锈", "299792458", "c", "木"], 1)[1]
    assert found[:, 0].tolist() == [1, 0, 2, 2, -1]


def test_letters_with_marks_of_their_own_are_the_composed_ones(tmp_path):
    write_part(tmp_path / part_name(0), iter(["Schrödinger wrote an equation.", "Gold shines."]))
    asked = ["schr\u00f6dinger", "schro\u0308dinger"]
    assert Lexical(tmp_path, [2]).search(asked, 1)[1].tolist() == [[0], [0]]


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ("CO2", "Plants take in CO₂."),
        ("CO₂", "Plants take in CO2."),
        ("299792458", "It moves 299,792,458 metres in a second."),
        ("299,792,458", "It moves 299792458 metres in a second."),
        ("photosynthesis", "Photo\u00adsyn\u00adthesis needs light."),
        ("photo\u00adsynthesis", "Photosynthesis needs light."),
        ("flux", "The ﬂux is conserved."),
        ("10^5 pascals", "It is about 10⁵ pascals."),
        ("25 °C", "Water of 25 ℃ is warm."),
        ("hydrogen", "𝐇ydrogen burns."),
        ("50 hz", "It hums at 50 ㎐."),
        ("5 1/2", "It is 5½ feet long."),
        ("kevlar", "Kevlar™ is strong."),
        ("note 1", "Note① says so."),
        ("カタカナ", "ｶﾀｶﾅ とは。"),
    ],
)
def test_spellings_that_mean_the_same_find_each_other(tmp_path, asked, written):
    write_part(tmp_path / part_name(0), iter(["Gold shines.", written, "Iron rusts in air, 299 792."]))
    scores, rows = Lexical(tmp_path, [3]).search([asked], 1)
    assert rows.tolist() == [[1]] and scores[0, 0] > 0


def test_commas_between_other_numbers_part_them(tmp_path):
    write_part(tmp_path / part_name(0), iter(["Of 1,2-dichloroethane it boils.", "In 12,34 and 1,2345."]))
    asked = ["2", "12", "1234", "2345", "12345"]
    assert Lexical(tmp_path, [2]).search(asked, 1)[1][:, 0].tolist() == [0, 1, -1, 1, -1]


def test_only_thousands_are_joined():
    assert words("1,234, 12,345 and (1,234,567)") == ["1234", "12345", "and", "1234567"]
    assert words("[1,2,345] 1999,200 0,125 3.1,415 1,2345") == (
        ["1", "2", "345", "1999", "200", "0", "125", "3", "1", "415", "1", "2345"]
    )


def test_an_index_of_other_words_is_told(tmp_path, capsys):
    write_corpus(tmp_path / "c.jsonl", ["Iron is a metal. It rusts."])
    encoders = {"e": Encoder(str(tiny_model(tmp_path)), device="cpu")}
    build(Plan(Corpus.open(tmp_path / "c.jsonl"), tmp_path / "i", encoders, Unit("sentence"), lexical=True))
    index = Index(tmp_path / "i")
    assert len(index.lexical()) == 2 and "other words" not in capsys.readouterr().err
    asked = {key: value for key, value in index.manifest.asked.items() if key != "word_rules"}
    dataclasses.replace(index.manifest, asked=asked).write(tmp_path / "i")
    Index(tmp_path / "i").lexical()
    assert "other words" in capsys.readouterr().err


def test_a_part_of_other_passages_or_half_a_part_is_refused(one, tmp_path):
    with pytest.raises(ArtifactError, match="200 passages instead of 100"):
        Lexical(one, [100])
    write_part(tmp_path / part_name(0), iter(PASSAGES[:5]))
    (tmp_path / part_name(0) / "data.csc.index.npy").unlink()
    with pytest.raises(ArtifactError, match="bm25s cannot read"):
        Lexical(tmp_path, [5])


@given(st.lists(st.text(max_size=40), min_size=1, max_size=5), st.text(max_size=40))
@settings(max_examples=30)
def test_any_text_can_be_indexed_and_asked(tmp_path_factory, passages, query):
    folder = tmp_path_factory.mktemp("any")
    write_part(folder / part_name(0), iter(passages))
    scores, rows = Lexical(folder, [len(passages)]).search([query], 3)
    assert scores.shape == rows.shape == (1, min(3, len(passages))) and (scores >= 0).all()
