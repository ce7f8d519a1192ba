"""Cleaning, units and the assembly of contexts: no model needed but a tokenizer."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_rag.errors import ConfigError
from kaggle_rag.retrieval.assembly import Assembler
from kaggle_rag.retrieval.cleaning import paragraphs
from kaggle_rag.retrieval.mathematics import tex_to_text
from kaggle_rag.retrieval.passages import Passage
from kaggle_rag.retrieval.units import Splitter, Unit

# As a plain-text export of Wikipedia holds it: one symbol a line, then the TeX, then the prose.
EXPORTED = (
    "The thrust is \n  \n    \n      \n        F\n        =\n        m\n        a\n      \n    \n"
    "    {\\displaystyle F={\\frac {m}{2}}a^{10}}\n  , for a mass of 5.2 kg.[12]\n"
)


def test_an_exported_formula_becomes_one_line_and_keeps_its_numbers():
    assert paragraphs(EXPORTED) == ["The thrust is F=m/2a^{10}, for a mass of 5.2 kg."]


@pytest.mark.parametrize(
    "tex, text",
    [
        (r"{\displaystyle b^{rs}={\tfrac {1}{4}}}", "b^{rs}=1/4"),
        (r"{\displaystyle \Delta U=Q-W}", "ΔU=Q-W"),
        (r"{\displaystyle {\sqrt[{3}]{a^{2}}}\leq 10^{-3}}", "3√(a^2)≤10^{-3}"),
        (r"{\displaystyle \{x\in \mathbb {R} \}}", "{x∈ℝ }"),
        (r"{\displaystyle {\frac {a+b}{\frac {1}{2}}}}", "(a+b)/(1/2)"),
    ],
)
def test_tex_becomes_text(tex, text):
    assert tex_to_text(tex) == text


@pytest.mark.parametrize(
    "raw, clean",
    [
        ("In 1905.[3] He[a] was [1994] here.[citation needed]", "In 1905. He was [1994] here."),
        ("It ran {{convert|5|km}} far{{cite book|title=x}}.", "It ran 5 km far."),
        ("End of it.: 37–38 The next.", "End of it. The next."),
        ("fell to 3&nbsp;m.The water rose.", "fell to 3 m. The water rose."),
        ("a set {{ }, {1}}", "a set {{ }, {1}}"),
    ],
)
def test_markup_goes_and_facts_stay(raw, clean):
    assert paragraphs(raw) == [clean]


def test_headings_and_reference_sections_go_until_the_next_section():
    text = "a b\n== See also ==\nlink\n=== Sub ===\nlink\n== Physics ==\nc d\n"
    assert paragraphs(text) == ["a b", "c d"]


@given(st.text(st.characters(blacklist_categories=("Cs",)), max_size=300))
@settings(deadline=None, max_examples=150)
def test_no_text_breaks_the_cleaning(text):
    for unit in ("sentence", "article"):
        assert all(piece.strip() for piece in Splitter(Unit(unit))(text))


@given(
    st.lists(st.from_regex(r"[A-Z][a-z]{2,8} [a-z]{2,8} \d{1,6}(\.\d{1,3})? [a-z]{2,6}\.", fullmatch=True))
)
@settings(deadline=None, max_examples=50)
def test_no_number_of_plain_prose_is_lost(prose):
    numbers = re.findall(r"\d+", " ".join(prose))
    assert re.findall(r"\d+", " ".join(Splitter(Unit("sentence"))(" ".join(prose)))) == numbers


@given(st.integers(8, 30), st.data())
@settings(deadline=None, max_examples=40)
def test_windows_cover_the_text_and_overlap_as_promised(encoder, size, data):
    overlap = data.draw(st.integers(0, size // 2))
    tokenizer = encoder.model.tokenizer
    text = "Plate tectonics moved 12.5 km of rock, slowly; the mantle flowed beneath it all the time."

    def tokens(piece):
        return tokenizer(piece, add_special_tokens=False)["input_ids"]

    windows = Splitter(Unit("window", size, overlap), tokenizer=tokenizer)(text)
    starts, end = [text.index(windows[0])], len(windows[0])
    for window in windows[1:]:
        starts.append(text.rindex(window, starts[-1] + 1, end + 1 + len(window)))
        # No gap, and at least the promised overlap, counted by the tokenizer itself.
        assert not text[end : starts[-1]].strip()
        assert len(tokens(text[starts[-1] : end])) >= overlap
        end = starts[-1] + len(window)
    assert starts[0] == 0 and end == len(text) and max(len(tokens(w)) for w in windows) <= size


@pytest.mark.parametrize("text", ["window:8", "window:8/8", "window:a/b", "page", "sentence:3"])
def test_a_unit_that_cannot_be_is_refused(text):
    with pytest.raises(ConfigError, match="window:SIZE/OVERLAP"):
        Unit.parse(text)


def assembler(lengths, budget, neighbours=1, titles=False):
    """Rows of so many words, three to an article; a token is a word."""
    passages = [Passage(i // 3, "", f"T{i // 3}", " ".join([f"r{i}"] * n)) for i, n in enumerate(lengths)]
    return Assembler(
        budget, neighbours, titles,
        lambda row: passages[row] if 0 <= row < len(passages) else None,
        lambda text: len(text.split()),
    )  # fmt: skip


def test_neighbours_join_only_inside_an_article_and_stand_in_its_order():
    assert assembler([1] * 9, 100, titles=True)([5, 0]) == "T1: r4 r5\nT0: r0 r1"


def test_what_does_not_fit_is_passed_over_and_a_long_first_hit_is_cut():
    assert assembler([1, 9, 1, 1], 3, neighbours=0)([1, 0, 3]) == "r0\nr3"
    assert assembler([9], 3)([0]) == "r0 r0 r0"


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=30), st.integers(1, 60), st.integers(0, 3), st.data()
)
@settings(deadline=None, max_examples=100)
def test_a_context_never_exceeds_its_budget(lengths, budget, neighbours, data):
    ranked = data.draw(st.lists(st.integers(0, len(lengths) - 1), unique=True, min_size=1))
    for titles in (False, True):
        text = assembler(lengths, budget, neighbours, titles)(ranked)
        assert 0 < len(text.split()) <= budget
