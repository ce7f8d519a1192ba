"""Cleaning meets text that nobody checked: it never raises, never hangs, and keeps the facts."""

import re

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_rag.text.cleaning import paragraphs
from kaggle_rag.text.mathematics import tex_to_text

# What real exports are made of, in orders that real exports do not have.
PIECES = [
    "{\\displaystyle ", "{", "}", "{{", "}}", "|", "\\frac", "\\sqrt", "[", "]", "\\begin{x}", "\\verb",
    "\\left", "^", "_", "$", "%", "&", "\\", "\n", "\n\n", "  ", "    ", "==", " See also ", "[12]",
    "<i", ">", "&nbsp;", "convert", "{{convert|", "word", "7", ".", ":", "=", "\r", "\0", "é", "\\{",
]  # fmt: skip
INDENTED = "A unit\n  \n    \n      \n        x\n      \n    \n    {\\displaystyle x}\n"

# As a plain-text export of Wikipedia holds it: one symbol a line, then the TeX, then the prose.
EXPORTED = (
    "The thrust is \n  \n    \n      \n        F\n        =\n        m\n        a\n      \n    \n"
    "    {\\displaystyle F={\\frac {m}{2}}a^{10}}\n  , for a mass of 5.2 kg.[12]\n"
)


def numbers(text):
    return re.findall(r"\d+", text)


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
@settings(max_examples=50)
def test_broken_markup_never_raises_and_gives_single_lines(text):
    for line in paragraphs(text):
        assert line.strip() == line and "\n" not in line and re.search(r"\w", line)


@pytest.mark.parametrize("tex", [r"\frac", r"\frac{1}", r"\sqrt", r"\sqrt[3]", r"\verb"])
def test_a_macro_without_its_arguments_is_still_text(tex):
    for end in ("}", ""):
        assert paragraphs(f"Iron {{\\displaystyle {tex}{end}")[0].startswith("Iron")


def test_braces_nested_deeper_than_python_recurses_are_still_text():
    tex = "{" * 2000 + "7" + "}" * 2000
    assert numbers(paragraphs("{\\displaystyle " + tex + "}")[0]) == ["7"]


WORDS = st.sampled_from(
    ["iron", "melts", "(in °C):", '"no":', "at", "from", "(w/h):", "ratio", "x<b", "if a<i and c>", "—"]
)
NUMBERS = st.from_regex(r"[0-9]{1,4}([.,:/–-][0-9]{1,3})?[,;%]?", fullmatch=True)


@given(st.lists(st.one_of(WORDS, NUMBERS), min_size=1, max_size=12))
@settings(max_examples=50)
def test_no_number_of_prose_with_brackets_quotes_and_signs_is_lost(pieces):
    prose = " ".join(pieces)
    assert numbers(" ".join(paragraphs(prose))) == numbers(prose)


@pytest.mark.parametrize(
    "prose",
    [
        "It boils at these temperatures (in °C): 15, 20 and 25.",
        "The aspect ratio (width to height): 16:9 is common.",
        'She said "the answer": 42 is right.',
        "It holds for a<b and c>5 alone.",
        "In 1990–95, 3 × 10^8 m/s, −40 °C, 1,085.5 K, 50% and ½ were kept [1994].",
    ],
)
def test_prose_stays_as_it_is(prose):
    assert paragraphs(prose) == [prose]


@pytest.mark.parametrize(
    "raw, clean",
    [
        ("A fact.[12][13] Next.[a][b]", "A fact. Next."),
        ("It ran {{convert|5|km}} or {{cvt|3|mi}}.", "It ran 5 km or 3 mi."),
        ("The set {\\displaystyle \\{1,2\\}} is {\\displaystyle \\{x\\}}.", "The set {1,2} is {x}."),
        ("Choose {\\displaystyle {\\binom {5}{2}}} ways.", "Choose (5 2) ways."),
        ("half {\\displaystyle 50%} of 7", "half 50% of 7"),
        ("<b>Iron</b> has<br/> a <span class=\"x\">core</span>.", "Iron has a core."),
    ],
)  # fmt: skip
def test_marks_go_and_what_they_showed_stays(raw, clean):
    assert paragraphs(raw) == [clean]


def test_line_ends_of_any_system_give_the_same_paragraphs():
    text = INDENTED + "  , is defined.\n== Notes ==\nMore of it.\n"
    assert paragraphs(text.replace("\n", "\r\n")) == paragraphs(text)
    assert paragraphs(text) == ["A unit x, is defined.", "More of it."]


def test_a_formula_that_never_closes_ends_with_its_line():
    text = "Iron {\\displaystyle x=5 melts.\nThe next 8 lines.\n== See also ==\nlink 9\n"
    assert paragraphs(text)[1:] == ["The next 8 lines."]


def test_a_backslash_at_the_end_of_a_text_does_not_reach_its_start():
    assert paragraphs("{\\displaystyle x}\n50% and 70% of it \\")[-1].startswith("50% and 70%")


def test_half_a_surrogate_is_replaced_since_no_file_can_hold_it():
    assert paragraphs("Iron \ud800 melts.")[0].encode("utf-8").startswith(b"Iron")


@pytest.mark.parametrize("name", ["References", "External links", "Further reading", "BIBLIOGRAPHY"])
def test_sections_of_references_go_with_their_subsections(name):
    text = f"Fact.\n== {name} ==\nSmith 1999.\n=== Sub ===\nJones 2001.\n== Next ==\nOther.\n"
    assert paragraphs(text) == ["Fact.", "Other."]


@pytest.fixture(scope="module")
def exported(shared):
    """The ten vital articles with the most formulae, as a plain-text export holds them."""
    texts = pq.read_table(shared / "wiki_vital/articles.parquet", columns=["text"])["text"]
    return sorted(texts.to_pylist(), key=lambda text: text.count("{\\displaystyle"))[-10:]


def test_real_formulae_become_lines_without_residue(exported):
    for text in exported:
        lines = paragraphs(text)
        assert "displaystyle" in text and not any("displaystyle" in line for line in lines)


def test_real_formulae_keep_their_numbers(exported):
    formulae = [f for text in exported[:3] for f in re.findall(r"^ +(\{\\displaystyle .*\})$", text, re.M)]
    assert len(formulae) > 100
    # Widths of columns and spaces are no numbers of the formula.
    plain = [f for f in formulae if not re.search(r"\\(begin|hspace|vspace|rule|color|\w*skip|\w*ref)", f)]
    lost = [(f, tex_to_text(f)) for f in plain if numbers(tex_to_text(f)) != numbers(f)]
    same = [pair for pair in lost if "".join(numbers(pair[0])) == "".join(numbers(pair[1]))]
    assert lost == same


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


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"72=2^{3}3^{2}", "72=2^3 3^2"), (r"x_{1}2", "x_1 2"), (r"\frac{1}{2}\frac{3}{4}", "1/2 3/4"),
        (r"x\in\R, n\isin\N", "x∈ℝ, n∈ℕ"), (r"n\to\infin", "n→∞"), (r"25\degree", "25°"),
        (r"\Re(z)=\Im(w)", "Re(z)=Im(w)"), (r"{n \choose k}", "(n k)"), (r"f\colon A\to B", "f:A→B"),
        (r"\sinh x+\ln 2", "sinh x+ln 2"), (r"A\rarr B\sub C", "A→B⊂C"),
    ],
)  # fmt: skip
def test_signs_of_wikipedias_mathematics_are_not_lost_or_glued(tex, text):
    assert tex_to_text(tex) == text


def test_exponents_of_an_export_stay_exponents():
    assert paragraphs("About 6.02×10<sup>23</sup> atoms of H<sub>2</sub>O.") == [
        "About 6.02×10^23 atoms of H2O."
    ]
