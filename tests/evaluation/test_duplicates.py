import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from question_tables import altered, shuffled_words, table

from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.duplicates import Thresholds, embedding_texts, find_duplicates, find_shared
from kaggle_rag.evaluation.folds import group
from kaggle_rag.evaluation.nearness import plain
from kaggle_rag.runtime.errors import InputError

MOON = "Which moon of Saturn has a dense atmosphere?"


def found(pairs):
    return {(p.left, p.right): (p.reason, p.contradicts) for p in pairs}


def test_the_same_question_in_another_dress():
    questions = table(
        (MOON, ["Titan", "Rhea"], 0),
        ("which Moon of  SATURN has a dense atmosphere", ["titan.", "RHEA"], 0),
        (MOON, ["Rhea", "Titan"], 1),
        ("What do bees eat?", ["nectar", "iron"], 0),
    )
    assert found(find_duplicates(questions)) == {(0, 1): ("same", False), (0, 2): ("swapped", False)}


def test_contradictions_are_of_the_option_and_not_of_the_letter():
    questions = table(
        (MOON, ["Titan", "Rhea"], 0), (MOON, ["Rhea", "Titan"], 0), (MOON, ["Titan", "Rhea"], None)
    )
    assert found(find_duplicates(questions)) == {(0, 1): ("swapped", True), (0, 2): ("same", False)}


def test_other_options_of_the_same_prompt_contradict_nothing():
    bird, fish = ["sparrow", "granite", "coal"], ["herring", "tin", "lead"]
    pairs = find_duplicates(table(("Which is alive?", bird, 0), ("Which is alive?", fish, 0)))
    assert not any(pair.contradicts for pair in pairs)
    # Right in one and wrong in the other, among options that differ.
    pairs = find_duplicates(
        table((MOON, ["Titan", "Rhea", "Dione"], 0), (MOON, ["Titan", "Rhea", "Mimas"], 1)),
        thresholds=Thresholds(words=0.3),
    )
    assert [pair.contradicts for pair in pairs] == [True]


def test_plus_and_minus_are_not_the_same_question():
    pairs = find_duplicates(table(("3 + 5 = ?", ["8", "-8"], 0), ("3 = 5 + ?", ["8", "8.5"], 0)))
    assert all(pair.reason != "same" and pair.reason != "swapped" for pair in pairs)
    assert found(find_duplicates(table(("x", ["5", "1"], 0), ("x", ["-5", "1"], 0)))) == {}


def test_copies_make_as_many_pairs_as_there_are_copies():
    questions = table(*[(MOON, ["Titan", "Rhea"], 0)] * 50)
    assert found(find_duplicates(questions)).keys() == {(0, row) for row in range(1, 50)}


def test_every_contradicted_copy_is_in_a_pair_that_says_so():
    answers = [None, 0, 0, 1, 1, 0, 2]
    questions = table(*[(MOON, ["Titan", "Rhea", "Dione"], answer) for answer in answers])
    pairs = find_duplicates(questions)
    told = {row for p in pairs if p.contradicts for row in (p.left, p.right)}
    assert told == {1, 2, 3, 4, 5, 6}
    assert {p.left for p in pairs} | {p.right for p in pairs} == set(range(7))
    assert all(p.contradicts == (answers[p.left] != answers[p.right]) for p in pairs if p.left > 0)
    across = find_shared(questions.take([1, 2]), questions.take([0, 3, 5]))
    assert found(across) == {
        (0, 0): ("same", False), (0, 1): ("same", True), (0, 2): ("same", False),
        (1, 1): ("same", True),
    }  # fmt: skip


def test_every_repeated_row_of_both_tables_is_listed():
    left = table((MOON, ["Titan", "Rhea"], 0), ("Else?", ["a", "b"], 0), (MOON, ["Rhea", "Titan"], 1))
    right = table(("Other?", ["c", "d"], 0), (MOON, ["Titan", "Rhea"], 0), (MOON, ["Titan", "Rhea"], 1))
    pairs = find_shared(left, right)
    assert {p.left for p in pairs} == {0, 2} and {p.right for p in pairs} == {1, 2}
    assert found(pairs)[0, 2] == ("same", True)


def test_vectors_find_what_words_do_not_and_the_strongest_reason_is_given():
    questions = table(
        (MOON, ["Titan", "Rhea"], 0),
        ("Name Saturn's satellite with thick air.", ["T", "R"], 0),
        (MOON, ["Rhea", "Titan"], 1),
    )
    vectors = np.array([[1, 0], [0.99, 0.05], [1, 0]])
    assert found(find_duplicates(questions, vectors)) == {
        (0, 1): ("vectors", False), (0, 2): ("swapped", False)
    }  # fmt: skip
    both = find_shared(questions.take([0]), questions.take([1, 2]), (vectors[:1], vectors[1:]))
    assert found(both) == {(0, 0): ("vectors", False), (0, 1): ("swapped", False)}
    with pytest.raises(InputError, match="2 vectors for 3 questions"):
        find_duplicates(questions, vectors[:2])


def test_an_encoder_reads_swapped_options_alike_and_finds_a_reworded_question(encoder):
    questions = table(
        ("What tool is used to determine the mass of an object?", ["a balance", "a ruler", "a clock"], 0),
        ("What tool is used to determine the mass of an object?", ["a clock", "a balance", "a ruler"], 1),
        ("With which of these would you find out an object's mass?", ["balance", "ruler", "clock"], 0),
        ("Which gas do plants take from the air?", ["oxygen", "carbon dioxide", "helium"], 1),
    )
    texts = embedding_texts(questions)
    assert (
        texts[0]
        == texts[1]
        == "What tool is used to determine the mass of an object? a balance a clock a ruler"
    )
    pairs = find_duplicates(questions, encoder.encode_queries(texts), Thresholds(cosine=0.8))
    assert {(p.left, p.right): p.reason for p in pairs} == {(0, 1): "swapped", (0, 2): "vectors"}


def test_copies_of_a_near_duplicate_are_listed_too():
    near = ("Which moon of Saturn has a very dense atmosphere?", ["Titan", "Rhea"], 0)
    left, right = table((MOON, ["Titan", "Rhea"], 0), near, near), table((MOON, ["Titan", "Rhea"], 0))
    pairs = find_shared(left, right, thresholds=Thresholds(words=0.5))
    assert {(p.left, p.right, p.reason) for p in pairs} == {(0, 0, "same"), (1, 0, "words"), (2, 0, "words")}


LOOSE = st.text(st.sampled_from("aB1-+ .?\u0301−"), max_size=4).filter(str.strip)


@given(st.lists(st.tuples(LOOSE, st.lists(LOOSE, min_size=2, max_size=3)), min_size=1, max_size=12))
@settings(max_examples=100)
def test_copies_are_those_of_a_comparison_of_all_with_all(rows):
    """Any text: the groups of copies are the classes of equal normalised texts, none more and none less."""
    questions = table(*[(prompt, options, 0) for prompt, options in rows])
    keys = [(plain(prompt), frozenset(map(plain, options))) for prompt, options in rows]
    copies = [p for p in find_duplicates(questions) if p.reason in ("same", "swapped")]
    assert all(keys[p.left] == keys[p.right] for p in copies)
    labels = group(len(rows), copies).labels
    assert all((keys[a] == keys[b]) == (labels[a] == labels[b]) for a in range(len(rows)) for b in range(a))


def test_an_empty_table_has_no_duplicates():
    questions = table((MOON, ["Titan", "Rhea"], 0))
    assert find_duplicates(questions.take([])) == [] == find_shared(questions, questions.take([]))


@pytest.mark.parametrize(
    ("change", "least", "reasons"),
    [
        (lambda text, rng: text.upper() + "  ", 1.0, {"same", "swapped"}),
        (shuffled_words, 1.0, {"same", "swapped", "words"}),
    ],
)
def test_planted_copies_of_real_questions_are_found(shared, change, least, reasons):
    questions = Questions.read(shared / "mcq/openbookqa_train.csv")
    rows = np.random.default_rng(3).choice(len(questions), 300, replace=False)
    pairs = find_shared(questions, altered(questions, rows, change))
    best = {p.right: p.reason for p in pairs if p.left == rows[p.right]}
    assert len(best) >= least * len(rows)
    assert set(best.values()) <= reasons


def test_planted_edits_of_real_questions_are_found(shared):
    """One word in eight is lost from the prompt, and the options change places."""

    def edited(text, rng):
        return " ".join(word for word in text.split() if rng.random() > 1 / 8) or text

    questions = Questions.read(shared / "mcq/openbookqa_train.csv")
    rows = np.random.default_rng(4).choice(len(questions), 300, replace=False)
    pairs = find_shared(questions, altered(questions, rows, edited))
    assert len({p.right for p in pairs if p.left == rows[p.right]}) >= 0.97 * len(rows)


def test_near_misses_among_real_questions_are_not_found(shared):
    """The prompt of one question over the options of another."""
    questions = Questions.read(shared / "mcq/openbookqa_train.csv")
    rows = np.random.default_rng(5).choice(len(questions), 300, replace=False)
    others = np.roll(rows, 1)
    made = table(
        *[
            (questions.prompts[a], list(questions.options[b]), int(questions.answers[b]))
            for a, b in zip(rows, others)
        ]
    )
    pairs = find_shared(questions, made, thresholds=Thresholds(prompt=1.0, stock=100))
    # Long options after a stub are most of a question: one in ten is near by them alone.
    assert len({p.right for p in pairs}) <= 0.12 * len(rows)


def test_the_duplicates_of_extra_6k_are_listed(shared):
    """Its prompts are all but unique: two rows share a real one, two a stray "Question:"."""
    questions = Questions.read(shared / "mcq/extra_6k.csv")
    pairs = {(questions.ids[p.left], questions.ids[p.right]): p for p in find_duplicates(questions)}
    assert pairs["273", "2900"].reason == "prompt" and pairs["273", "2900"].similarity == 1
    assert ("4893", "5409") not in pairs
    assert len(pairs) == 3
