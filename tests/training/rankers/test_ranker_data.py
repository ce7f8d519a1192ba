"""What an epoch changes of a question, drawn from seed, epoch and row alone; and what is refused."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from ranker_toys import WORDS, asked, tokenizer

from kaggle_rag.data.contexts import lines_as_snippets
from kaggle_rag.models.answering.forms import form_of
from kaggle_rag.models.layouts import PAIR
from kaggle_rag.models.writer import Writer
from training.rankers.dataset import EpochQuestions, RankerDataset
from training.rankers.harder import Changes, with_fewer_snippets

FORM = form_of("choice", "encoder")


def item(number, width=5):
    """Every option has a context that says which question and which option it belongs to."""
    options = tuple(WORDS[(number + n) % 8] for n in range(width))
    return asked("the right ?", options, [f"{option} frost" for option in options], number % width)


def questions(count=40, others=None, **changes):
    settings = {"shuffle": True, "drop_snippets": 0.0, "weaker": 0.0, "seed": 3, **changes}
    found = [item(number) for number in range(count)]
    writer = Writer(tokenizer("bert"), PAIR, 48)
    return EpochQuestions(found, FORM, writer, Changes(**settings), weaker=others)


def read(dataset, row):
    """The options, their contexts and the right option of a feature, out of its tokens."""
    feature, words = dataset[row], dataset.writer.tokenizer
    rows = [words.convert_ids_to_tokens(ids) for ids in feature["input_ids"]]
    return [r[-2] for r in rows], [r[1 : r.index("</s>")] for r in rows], rows[feature["labels"]][-2]


def test_options_are_shuffled_every_epoch_and_labels_and_contexts_move_with_them():
    dataset, orders, places = questions(), set(), []
    for epoch in range(6):
        dataset.epoch = epoch
        for row in range(len(dataset)):
            options, contexts, right = read(dataset, row)
            known = item(row)
            assert sorted(options) == sorted(known.options) and right == known.options[known.answer]
            assert [context[0] for context in contexts] == options
            places.append(dataset[row]["labels"])
            if row == 0:
                orders.add(tuple(options))
    assert len(orders) >= 4
    # 240 draws over 5 places: each is 48 by chance, and 20 is 4.5 standard deviations below.
    assert np.bincount(places, minlength=5).min() > 20


def test_everything_is_drawn_from_seed_epoch_and_row_alone():
    one, other = questions(drop_snippets=0.4), questions(drop_snippets=0.4)
    one.epoch = other.epoch = 2
    forwards = [one[row] for row in range(40)]
    backwards = {row: other[row] for row in reversed(range(40))}
    assert forwards == [backwards[row] for row in range(40)] == [one[row] for row in range(40)]
    other.epoch = 3
    assert forwards != [other[row] for row in range(40)]
    assert forwards != [questions(drop_snippets=0.4, seed=4)[row] for row in range(40)]


def test_without_shuffling_the_options_stay():
    dataset = questions(shuffle=False)
    assert all(read(dataset, row)[0] == list(item(row).options) for row in range(40))


def test_a_share_of_the_questions_reads_the_weaker_context():
    other = (lines_as_snippets("heron heron"),) * 5
    weaker = [found._replace(contexts=other) for found in map(item, range(200))]
    dataset = questions(200, weaker, weaker=0.25)
    share = sum(read(dataset, row)[1][0] == ["heron", "heron"] for row in range(200))
    # Binomial(200, 0.25): 50 with a standard deviation of 6.1.
    assert 25 < share < 75
    never = questions(200, weaker, weaker=0.0)
    assert not any(read(never, row)[1][0] == ["heron", "heron"] for row in range(200))


@given(st.permutations(range(4)), st.integers(-1, 3))
def test_an_order_moves_option_context_and_answer_together(order, answer):
    known = asked("?", ("a", None, "c", "d"), ("x", "y", "z", "w"), answer)
    found = known.in_order(order)
    assert sorted(map(str, found.options)) == sorted(map(str, known.options))
    pairs = dict(zip(known.options, known.contexts))
    assert all(pairs[option] == context for option, context in zip(found.options, found.contexts))
    assert found.answer == -1 if answer < 0 else found.options[found.answer] == known.options[answer]


def test_the_same_snippets_are_left_out_for_all_options():
    lines = [f"line {number}" for number in range(400)]
    known = asked("?", ("a", "b"), ("\n".join(lines), "\n".join(reversed(lines))), 0)
    found = with_fewer_snippets(known, 0.3, np.random.default_rng(0))
    first, second = ([str(snippet) for snippet in context] for context in found.contexts)
    assert first == second[::-1] and first == [line for line in lines if line in set(first)]
    # Binomial(400, 0.7): 280 with a standard deviation of 9.2.
    assert 240 < len(first) < 320


def test_contexts_that_the_questions_bring_and_nothing_reads_are_told(tmp_path):
    rows = [{"id": n, "prompt": f"p{n}", "A": "x", "B": "y", "answer": "AB"[n % 2]} for n in range(4)]
    for brought, said in (("why", "1 question brings a context"), ("", "")):
        path = tmp_path / "q.jsonl"
        told = [json.dumps({**row, "context": brought * (row["id"] == 1)}) for row in rows]
        path.write_text("\n".join(told))
        note = RankerDataset.read(path, None).unread()
        assert said in note and bool(said) == bool(note)
