"""Batches hold every text once inside their budget; what makes them ahead ends with its reader."""

import threading
import time

import numpy as np
import pytest

from kaggle_rag.index.batches import ahead, batches


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("budget, count", [(64, 700), (1, 9), (64, 2_500)])
def test_every_text_is_in_one_batch_of_like_lengths_inside_the_budget(tiny, budget, count):
    texts = ["ab " * (1 + number * 7 % 19) for number in range(count)]
    seen = []
    for rows, features in batches(texts, tiny.model.tokenizer, longest=64, budget=budget):
        alone = tiny.model.tokenizer([texts[row] for row in rows], truncation=True, max_length=64)
        lengths = features["attention_mask"].sum(1).tolist()
        assert lengths == [len(ids) for ids in alone["input_ids"]] == sorted(lengths, reverse=True)
        assert len(rows) == 1 or features["input_ids"].numel() <= budget
        seen += rows.tolist()
    assert sorted(seen) == list(range(count)) and not threads()


def test_one_is_made_ahead_and_never_more():
    begun, second = [], threading.Event()

    def make(item):
        begun.append(item)
        if item == 1:
            second.set()
        return item * 2

    made = ahead(make, range(9))
    assert next(made) == 0 and second.wait(60)
    # A third one would be begun in this time.
    time.sleep(0.05)
    assert begun == [0, 1] and next(made) == 2 and list(made) == [4, 6, 8, 10, 12, 14, 16]


def test_an_error_of_the_thread_reaches_the_reader_and_no_thread_stays():
    def make(item):
        return 1 // (2 - item)

    made = ahead(make, range(5))
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(made)
    assert not threads()


def test_a_reader_that_stops_half_way_leaves_no_thread(tiny, monkeypatch):
    monkeypatch.setattr("kaggle_rag.index.batches._SLICE", 4)

    def stop(rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny.encode_passages(["iron"] * 50, on_rows=stop)
    assert not threads()


def test_an_error_of_the_tokenizer_reaches_the_caller():
    def broken(texts, **settings):
        raise ValueError("no such token")

    with pytest.raises(ValueError, match="no such token"):
        list(batches(["iron"] * 9, broken, longest=64, budget=8))
    assert not threads()


def test_slices_change_no_vector(tiny, monkeypatch):
    texts = ["iron " * (1 + number % 11) for number in range(60)]
    whole = tiny.encode_passages(texts)
    monkeypatch.setattr("kaggle_rag.index.batches._SLICE", 7)
    assert np.abs(tiny.encode_passages(texts) - whole).max() < 1e-5
