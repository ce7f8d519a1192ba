"""What a passage is, checked against the tokenizer itself and against text without spaces."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from transformers import PreTrainedTokenizerFast

from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.text.units import SCRAPS, Splitter, Unit, sentences

WORDS = st.lists(st.from_regex(r"[a-w]{1,6}", fullmatch=True), min_size=1, max_size=60)


@given(WORDS, st.integers(12, 30), st.data())
@settings(max_examples=50)
def test_windows_are_pieces_of_the_text_that_leave_nothing_out(encoder, words, size, data):
    overlap = data.draw(st.integers(0, size // 3))
    # A number before each word, so that a window stands in one place only.
    text = " ".join(f"{number:02d}x{word}" for number, word in enumerate(words))
    windows = Splitter(Unit("window", size, overlap), tokenizer=encoder.model.tokenizer)(text)
    end = 0
    for window in windows:
        start = text.index(window)
        assert not text[end:start].strip() and start + len(window) > end
        assert end == 0 or encoder.count_tokens([text[start:end]])[0] >= overlap
        end = start + len(window)
    assert end == len(text) and encoder.count_tokens(windows).max() <= size


@given(st.text(max_size=200))
@settings(max_examples=50)
def test_any_text_can_be_cut_by_every_unit(encoder, text):
    for unit in ("sentence", "article", "window:16/4"):
        pieces = Splitter(Unit.parse(unit), tokenizer=encoder.model.tokenizer)(text)
        assert all(piece.strip() for piece in pieces)


@settings(max_examples=100)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=6), st.integers(2, 20), st.data())
def test_words_longer_than_a_window_leave_no_window_empty(encoder, lengths, size, data):
    """A border that moves back to the start of such a word cuts the window before it short."""
    overlap = data.draw(st.integers(0, size - 1))
    text = " ".join("x" * length for length in lengths)
    windows = Splitter(Unit("window", size, overlap), tokenizer=encoder.model.tokenizer)(text)
    assert all(windows) and windows[0] == text[: len(windows[0])] and text.endswith(windows[-1])
    assert encoder.count_tokens(windows).max() <= 2 * size


def test_text_without_spaces_is_not_cut_into_a_window_a_token():
    letters = "火山是地球内部的岩浆喷出地表形成"
    vocabulary = [("<unk>", 0.0), ("▁", -1.0)] + [(letter, -2.0) for letter in letters]
    raw = Tokenizer(Unigram(vocabulary, 0))
    raw.pre_tokenizer = Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>")
    windows = Splitter(Unit("window", 20, 5), tokenizer=tokenizer)(letters * 20)
    assert max(map(len, windows)) <= 20
    # 320 tokens in steps of 15: 21 windows, a few more for borders.
    assert len(windows) <= 25


def test_a_sentence_keeps_abbreviations_and_decimals_whole():
    text = "Dr. Curie found 0.1 g of it, i.e. a trace. It glowed at 3.5 K. Yes."
    assert sentences(text) == ["Dr. Curie found 0.1 g of it, i.e. a trace.", "It glowed at 3.5 K."]


@pytest.mark.parametrize(
    ("language", "text", "kept"),
    [
        ("zh", "光速是每秒299792458米。水在百度沸腾！好。", ["光速是每秒299792458米。", "水在百度沸腾！"]),
        ("ja", "水は百度で沸騰する。鉄は錆びる。", ["水は百度で沸騰する。", "鉄は錆びる。"]),
        ("th", "น้ำเดือดที่หนึ่งร้อยองศา", ["น้ำเดือดที่หนึ่งร้อยองศา"]),
    ],
)
def test_scripts_without_spaces_have_sentences_too(language, text, kept):
    left_out = Counter()
    assert sentences(text, language, left_out) == kept
    assert sum(left_out.values()) == (language == "zh")


def test_an_article_is_one_passage_and_an_empty_one_is_none():
    whole = Splitter(Unit("article"))
    assert whole("== Iron ==\nIron is a metal.\n\nIt rusts.") == ["Iron is a metal. It rusts."]
    assert whole("== Iron ==\n\n") == [] == Splitter(Unit("sentence"))("")


@pytest.mark.parametrize("text", ["sentence", "article", "window:256/64", "window:1/0"])
def test_a_unit_reads_back_as_it_is_written(text):
    assert str(Unit.parse(text)) == text


@pytest.mark.parametrize("text", ["window:8", "window:8/8", "window:a/b", "page", "sentence:3"])
def test_a_unit_that_cannot_be_is_refused(text):
    with pytest.raises(ConfigError, match="window:SIZE/OVERLAP"):
        Unit.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He weighs approx. 70 kg. It is so.", ["He weighs approx. 70 kg.", "It is so."]),
        ("Streptococcus spp. cause disease.", ["Streptococcus spp. cause disease."]),
        ("It has salts, acids, etc. The rest is water.", ["It has salts, acids, etc.", "The rest is water."]),
        ("The year was 1990. 50 people came.", ["The year was 1990.", "50 people came."]),
    ],
)
def test_no_sentence_ends_within_a_quantity(text, expected):
    assert sentences(text) == expected


def test_items_of_one_word_stay_with_the_line_that_introduces_them():
    splitter = Splitter(Unit("sentence"))
    text = "The noble gases are:\n* Helium\n* Neon\n* Argon\nThey are inert.\nHelium\nNeon is a gas."
    left_out = Counter()
    found = splitter(text.replace("* ", ""), left_out=left_out)
    assert found == ["The noble gases are: Helium, Neon, Argon", "They are inert.", "Neon is a gas."]
    assert left_out[SCRAPS] == 1
