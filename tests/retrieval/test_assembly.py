"""Contexts of real tokens: never over the budget, neighbours of one article, best hit first."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_rag.data.contexts import Snippet, joined
from kaggle_rag.index.passages import Passage
from kaggle_rag.retrieval.assembly import Assembler, longest_prefix

SENTENCES = [
    "Iron melts at 1,538 °C.", "It rusts.", "Steel is an alloy of iron and up to 2.1% carbon by weight.",
    "Phosphofructokinase-1 regulates glycolysis.", "Water boils at 100 °C; ice is less dense.",
    "E=mc^2 holds.",
]  # fmt: skip
TITLES = ["Iron (metal)", "", "Äther"]
# 18 passages: three articles of six.
PASSAGES = [Passage(row // 6, str(row // 6), TITLES[row // 6], SENTENCES[row % 6]) for row in range(18)]

SCORES = [1 / (1 + rank) for rank in range(18)]


def passage(row):
    return PASSAGES[row] if 0 <= row < len(PASSAGES) else None


def assembler(encoder, budget, neighbours=0, titles=False):
    made = Assembler(budget, neighbours, titles, passage, lambda text: int(encoder.count_tokens([text])[0]))
    return lambda ranked: joined(made(ranked, SCORES[: len(ranked)]))


RANKED = st.lists(st.integers(0, 17), unique=True, min_size=1, max_size=8)


@given(RANKED, st.integers(1, 120), st.integers(0, 3), st.booleans())
@settings(max_examples=50)
def test_the_budget_holds_in_tokens_of_the_encoder(encoder, ranked, budget, neighbours, titles):
    text = assembler(encoder, budget, neighbours, titles)(ranked)
    assert encoder.count_tokens(text.split("\n")).sum() <= budget
    # The longest first word, Phosphofructokinase-1, has 11 tokens.
    assert text or budget < 11


@given(RANKED, st.integers(0, 3))
@settings(max_examples=50)
def test_with_room_for_all_exactly_the_hits_and_their_neighbours_are_there(encoder, ranked, neighbours):
    lines = assembler(encoder, 10_000, neighbours)(ranked).split("\n")
    wanted = {
        near for row in ranked for near in range(row - neighbours, row + neighbours + 1)
        if 0 <= near < 18 and near // 6 == row // 6
    }  # fmt: skip
    runs = [[row] for row in sorted(wanted)]
    for left, right in zip(runs[-2::-1], runs[:0:-1]):
        if right[0] == left[-1] + 1 and right[0] // 6 == left[0] // 6:
            left += right
            right.clear()
    expected = [" ".join(SENTENCES[row % 6] for row in run) for run in runs if run]
    assert sorted(lines) == sorted(expected)
    assert SENTENCES[ranked[0] % 6] in lines[0]


def test_of_two_neighbours_the_later_is_taken_when_one_fits(encoder):
    room = int(encoder.count_tokens([SENTENCES[1]])[0])
    assert assembler(encoder, room, neighbours=1)([1]) == SENTENCES[1]
    room = int(encoder.count_tokens([SENTENCES[1], SENTENCES[2]]).sum())
    assert assembler(encoder, room, neighbours=1)([1]) == f"{SENTENCES[1]} {SENTENCES[2]}"


def test_titles_stand_once_a_snippet_and_an_empty_one_not_at_all(encoder):
    text = assembler(encoder, 500, neighbours=1, titles=True)([13, 7, 1])
    starts = ("Äther: ", "Iron melts", "Iron (m")
    assert all(line.startswith(start) for line, start in zip(text.split("\n"), starts))
    assert text.count("Äther: ") == text.count("Iron (metal): ") == 1 and ": Iron melts" in text


@given(st.lists(st.text("ab", min_size=1, max_size=5), max_size=12), st.integers(0, 30))
@settings(max_examples=50)
def test_the_longest_prefix_is_the_longest(pieces, budget):
    joined = [" ".join(pieces[:n]) for n in range(len(pieces) + 1)]
    assert longest_prefix(pieces, budget, len) == [text for text in joined if len(text) <= budget][-1]


def test_nothing_ranked_is_no_context(encoder):
    assert assembler(encoder, 50)([]) == ""


def counting_words(lengths, budget, neighbours=1, titles=False):
    """Rows of so many words, three to an article; a token is a word."""
    passages = [Passage(i // 3, "", f"T{i // 3}", " ".join([f"r{i}"] * n)) for i, n in enumerate(lengths)]
    return Assembler(
        budget, neighbours, titles,
        lambda row: passages[row] if 0 <= row < len(passages) else None,
        lambda text: len(text.split()),
    )  # fmt: skip


def text_of(made, ranked):
    return joined(made(ranked, SCORES[: len(ranked)]))


@given(
    st.integers(3, 8), st.data(), st.lists(st.integers(0, 5), unique=True, min_size=1), st.integers(1, 30),
)  # fmt: skip
def test_what_overlapping_windows_share_is_written_and_paid_for_once(size, data, ranked, budget):
    words = [f"w{n}" for n in range(60)]
    step = size - data.draw(st.integers(0, size - 1))
    windows = [" ".join(words[at : at + size]) for at in range(0, 6 * step, step)]
    passages = [Passage(0, "", "", text) for text in windows]
    made = Assembler(
        budget, 1, False, lambda row: passages[row] if 0 <= row < 6 else None,
        lambda text: len(text.split()), overlapping=step < size,
    )(ranked, SCORES[: len(ranked)])  # fmt: skip
    texts = [snippet.text.split() for snippet in made]
    assert sum(map(len, texts)) <= budget
    for text, snippet in zip(texts, made):
        # A stretch of the article, whole windows of it or the beginning of one.
        assert text == words[words.index(text[0]) :][: len(text)]
        rows = snippet.rows
        assert text[0] == f"w{rows[0] * step}"
        assert len(text) == (rows[-1] - rows[0]) * step + size or len(made) == 1


def test_neighbours_join_only_inside_an_article_and_stand_in_its_order():
    assert text_of(counting_words([1] * 9, 100, titles=True), [5, 0]) == "T1: r4 r5\nT0: r0 r1"


def test_what_does_not_fit_is_passed_over_and_a_long_first_hit_is_cut():
    assert text_of(counting_words([1, 9, 1, 1], 3, neighbours=0), [1, 0, 3]) == "r0\nr3"
    assert text_of(counting_words([9], 3), [0]) == "r0 r0 r0"


def test_a_snippet_knows_its_title_its_passages_and_the_score_of_its_best_hit():
    found = counting_words([1] * 9, 100, titles=True)([5, 0], [0.9, 0.8])
    assert found == (Snippet("T1", "r4 r5", 0.9, (4, 5)), Snippet("T0", "r0 r1", 0.8, (0, 1)))
    assert counting_words([9], 3)([0], [0.5]) == (Snippet("", "r0 r0 r0", 0.5, (0,)),)


def test_line_breaks_between_snippets_are_paid_for():
    """To a tokenizer of bytes a line break is a token."""
    passages = [Passage(n, "", f"T{n}", "abcd") for n in range(9)]
    for budget in range(4, 40):
        made = Assembler(
            budget, 0, False, lambda row: passages[row] if 0 <= row < 9 else None,
            lambda text: len(text.replace(" ", "")),
        )  # fmt: skip
        text = joined(made(range(9), [1.0] * 9))
        assert len(text) <= budget < len(text) + 5 or text.count("abcd") == 9


def test_of_a_passage_without_spaces_the_beginning_is_kept():
    long = Passage(0, "", "", "铁是一种金属，" * 40)
    made = Assembler(64, 0, False, lambda row: long if row == 0 else None, len, language="zh")
    (snippet,) = made([0], [1.0])
    assert len(snippet.text) == 64 and long.text.startswith(snippet.text)
