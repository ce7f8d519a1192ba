"""A pass over the layers answers as many questions as the time allows, and never takes more."""

import types

import numpy as np
import pytest
from streaming_toys import TOKENS, checkpoint, resident
from test_packing import questions

from kaggle_rag.models.answering.packed import PackedOptions
from kaggle_rag.models.streaming import layers, model, shards
from kaggle_rag.models.streaming.model import StreamedModel
from kaggle_rag.models.streaming.pace import Pace
from kaggle_rag.models.streaming.room import Room
from kaggle_rag.models.streaming.shards import Parts
from kaggle_rag.models.streaming.skeleton import Skeleton

LAYERS = 8


def by_hand(pace, batches, layers):
    """Reading and computing go on at once, and the slower of both counts."""
    tokens, reads = (100, 300, 600)[batches - 1], (10, 20, 30)[batches - 1]
    head = 0.5 * (pace.move + pace.read + pace.token * reads)
    return layers * (pace.move + max(pace.read, pace.token * tokens)) + head


@pytest.mark.parametrize("read", [2.0, 20.0])
def test_a_forecast_is_that_worked_by_hand(read):
    pace = Pace([100, 200, 300], [10, 10, 10], 0.5)
    pace.read, pace.move, pace.token = read, 0.5, 0.01
    for count in (1, 2, 3):
        assert pace.seconds(count, 4) == pytest.approx(by_hand(pace, count, 4))
    for left in np.linspace(0, 120, 50):
        fitting = [count for count in (1, 2, 3) if by_hand(pace, count, 4) <= left]
        assert pace.fitting(3, 4, left) == max(fitting, default=0)
        assert pace.fitting(1, 4, left) == min(1, max(fitting, default=0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return checkpoint("llama", tmp_path_factory.mktemp("deep"), layers=LAYERS)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass while tokens are computed and parts are read, and in no other way."""
    found = types.SimpleNamespace(now=0.0, token=0.01, read=0.0, computed=[], slower={}, stop=None)
    through, read = Skeleton.through, Parts._read

    def computing(self, layer, hidden, batch):
        if layer == found.stop:
            raise KeyboardInterrupt
        found.computed.append(layer)
        found.now += found.slower.get(layer, 1) * found.token * batch["input_ids"].numel()
        return through(self, layer, hidden, batch)

    def reading(self, number):
        return read(self, number)._replace(seconds=found.read)

    monkeypatch.setattr(Skeleton, "through", computing)
    monkeypatch.setattr(Parts, "_read", reading)
    for module in (layers, shards):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(perf_counter=lambda: found.now))
    return found


def scored(folder, clock, limit, *, items, group, monkeypatch, quiet=True):
    """What is answered in so many seconds, beside the answers of a pass without a limit."""
    monkeypatch.setattr(model, "_GROUP", group)
    _, writer = resident(folder, "options")
    with StreamedModel(folder, PackedOptions()) as streamed:
        whole = streamed.score(writer, items, TOKENS, quiet=True)
        took, clock.now = clock.now, 0.0
        clock.computed.clear()
    with StreamedModel(folder, PackedOptions()) as streamed:
        found = streamed.score_within(writer, items, lambda: limit * took - clock.now, TOKENS, quiet=quiet)
    assert found.logits[found.asked] == pytest.approx(whole[found.asked], abs=1e-6)
    assert clock.now <= limit * took
    return found.asked, clock.now / took


@pytest.mark.parametrize("limit", [0.3, 0.5, 0.8])
def test_as_many_as_fit_are_answered_and_the_first_ones(folder, clock, monkeypatch, limit):
    asked, took = scored(folder, clock, limit, items=questions(64, 0), group=8, monkeypatch=monkeypatch)
    # One group of questions after the other, and about the share of them that the time is of a whole pass.
    groups = asked.reshape(-1, 8).mean(1)
    assert sorted(groups, reverse=True) == groups.tolist() and sum(0 < share < 1 for share in groups) <= 1
    assert limit - 0.2 < asked.mean() < limit + 0.05 and took > limit - 0.2


def test_time_enough_answers_all(folder, clock, monkeypatch):
    asked, _ = scored(folder, clock, 1.2, items=questions(64, 0), group=8, monkeypatch=monkeypatch)
    assert asked.all()


def test_a_machine_that_becomes_slower_answers_fewer(folder, clock, monkeypatch):
    items = questions(64, 0)
    even, _ = scored(folder, clock, 0.6, items=items, group=8, monkeypatch=monkeypatch)
    clock.now, clock.slower = 0.0, dict.fromkeys(range(4, LAYERS), 2)
    # The pass without a limit is slower too: 1.5 times.
    asked, _ = scored(folder, clock, 0.6 / 1.5, items=items, group=8, monkeypatch=monkeypatch)
    assert 0 < asked.sum() < even.sum()


@pytest.mark.parametrize("limit", [0.0, 0.02])
def test_a_time_that_is_too_short_for_any_ends_after_two_layers(folder, clock, monkeypatch, limit):
    asked, _ = scored(folder, clock, limit, items=questions(64, 0), group=8, monkeypatch=monkeypatch)
    assert not asked.any() and set(clock.computed) <= {0, 1}


def test_a_pass_that_is_taken_up_with_little_time_goes_on_with_fewer_questions(
    folder, clock, monkeypatch, tmp_path
):
    monkeypatch.setattr(model, "_GROUP", 8)
    _, writer = resident(folder, "options")
    items, room = questions(64, 0), Room(ram=0, folder=tmp_path / "pass")
    with StreamedModel(folder, PackedOptions()) as streamed:
        whole = streamed.score(writer, items, TOKENS, quiet=True)
    took = clock.now
    clock.stop = 4
    with StreamedModel(folder, PackedOptions(), room=room) as streamed, pytest.raises(KeyboardInterrupt):
        streamed.score(writer, items, TOKENS, quiet=True)
    # Half of the layers are left, and a quarter of the time of all.
    clock.now, clock.stop = 0.0, None
    clock.computed.clear()
    with StreamedModel(folder, PackedOptions(), room=room) as streamed:
        found = streamed.score_within(writer, items, lambda: took / 4 - clock.now, TOKENS, quiet=True)
    assert set(clock.computed) == {4, 5, 6, 7} and clock.now <= took / 4
    assert 0.3 < found.asked.mean() < 0.55
    assert found.logits[found.asked] == pytest.approx(whole[found.asked], abs=1e-6)


def test_reading_that_takes_longer_than_computing_counts(folder, clock, monkeypatch):
    """The files are read in a hundred times the time of a layer: nothing can be answered."""
    items = questions(16, 0)
    _, writer = resident(folder, "options")
    clock.read = 1000.0
    with StreamedModel(folder, PackedOptions()) as streamed:
        found = streamed.score_within(writer, items, lambda: 5000.0 - clock.now, TOKENS, quiet=True)
    assert not found.asked.any() and set(clock.computed) <= {0, 1}


def test_what_is_to_come_is_said_after_two_layers(folder, clock, monkeypatch, capsys):
    scored(folder, clock, 0.5, items=questions(64, 0), group=8, monkeypatch=monkeypatch, quiet=False)
    said = capsys.readouterr().err
    assert "to go for" in said and "of 64 questions and 6 layers" in said
    _, writer = resident(folder, "options")
    with StreamedModel(folder, PackedOptions()) as streamed:
        streamed.score(writer, questions(8, 0), TOKENS)
        assert "to go for 8 questions and 6 layers" in capsys.readouterr().err
        # Twice as many questions take twice as long, and the head.
        assert streamed.forecast(16) == pytest.approx(2 * streamed.forecast(8), rel=0.01)
