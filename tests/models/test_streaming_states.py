"""Hidden states have room, survive a kill, and are taken up by a pass with the same inputs and no other."""

import types

import numpy as np
import psutil
import pytest
import torch
from streaming_toys import TOKENS, checkpoint, resident
from test_packing import questions

from kaggle_rag.models.answering.packed import PackedLetters, PackedOptions
from kaggle_rag.models.streaming import hidden_states as streaming_states
from kaggle_rag.models.streaming import layers as streaming
from kaggle_rag.models.streaming import room
from kaggle_rag.models.streaming.hidden_states import hidden_states
from kaggle_rag.models.streaming.model import StreamedModel
from kaggle_rag.models.streaming.room import DEVICE, FILE, RAM, Placed, Room
from kaggle_rag.models.streaming.skeleton import Skeleton
from kaggle_rag.runtime.errors import LimitError


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_states_in_files_give_what_states_in_memory_give(folder, tmp_path, precision):
    _, writer = resident(folder, "letters")
    items = questions(12, 0)
    with StreamedModel(folder, PackedLetters(), precision=precision) as model:
        expected = model.score(writer, items, TOKENS)
    room = Room(ram=1000, folder=tmp_path / "states")
    with StreamedModel(folder, PackedLetters(), precision=precision, room=room) as model:
        assert np.array_equal(model.score(writer, items, TOKENS), expected)
    assert not (tmp_path / "states").exists(), "nothing is left behind"


def test_states_without_room_are_refused(deep):
    _, writer = resident(deep, "options")
    with StreamedModel(deep, PackedOptions(), room=Room(ram=1000)) as model:
        with pytest.raises(LimitError, match="or a folder on a disk with space"):
            model.score(writer, questions(12, 0), TOKENS)
        with pytest.raises(LimitError, match="or a folder on a disk with space"):
            model.need(100_000, 48)


@pytest.fixture
def stopped(deep, tmp_path, monkeypatch):
    """A pass that was interrupted in its fourth layer, among the batches: its room, and the layers run."""
    _, writer = resident(deep, "options")
    room = Room(ram=0, folder=tmp_path)
    run, through = [], Skeleton.through

    def interrupted(self, layer, hidden, batch):
        if run.count(3) == 2:
            raise KeyboardInterrupt
        run.append(layer)
        return through(self, layer, hidden, batch)

    monkeypatch.setattr(Skeleton, "through", interrupted)
    with StreamedModel(deep, PackedOptions(), room=room) as model, pytest.raises(KeyboardInterrupt):
        model.score(writer, questions(24, 0), 64)
    assert set(run) == {0, 1, 2, 3} and run.count(3) < run.count(2)
    run.clear()

    def spied(self, layer, hidden, batch):
        run.append(layer)
        return through(self, layer, hidden, batch)

    monkeypatch.setattr(Skeleton, "through", spied)
    return room, writer, run


def test_a_killed_pass_resumes_behind_its_last_finished_layer(deep, stopped, reads, monkeypatch):
    room, writer, run = stopped
    bars, progress = [], streaming.progress

    def shown(total, *names, **options):
        bars.append((total, options["initial"], progress(total, *names, **options)))
        return bars[-1][2]

    monkeypatch.setattr(streaming, "progress", shown)
    with StreamedModel(deep, PackedOptions(), room=room) as model:
        scored = model.score(writer, questions(24, 0), 64)
        # Layers that were finished are neither computed nor read.
        assert set(run) == {3, 4}
        assert set(reads) == {name for part in model._skeleton.parts[4:] for name in part}
    ((layers, done, bar),) = bars
    assert (layers, done, bar.n) == (5, 3, 5)
    with StreamedModel(deep, PackedOptions()) as model:
        assert np.array_equal(scored, model.score(writer, questions(24, 0), 64))


@pytest.mark.parametrize("other", ["questions", "precision", "weights"])
def test_a_killed_pass_is_not_taken_up_by_another(deep, stopped, tmp_path_factory, other):
    room, writer, run = stopped
    items = questions(24, 1 if other == "questions" else 0)
    precision = "bf16" if other == "precision" else "fp32"
    folder = checkpoint("llama", tmp_path_factory.mktemp("other"), 1, 5) if other == "weights" else deep
    with StreamedModel(folder, PackedOptions(), room=room, precision=precision) as model:
        scored = model.score(writer, items, 64)
    assert set(run) == {0, 1, 2, 3, 4}
    with StreamedModel(folder, PackedOptions(), precision=precision) as model:
        assert np.array_equal(scored, model.score(writer, items, 64))


def test_hidden_states_in_files_leave_the_memory_of_the_process(tmp_path):
    """Four batches of 16 MB each pass through; no more than one of each file is mapped in at a time."""
    shapes = [torch.Size((1, 512, 8192))] * 4
    placed = Placed(FILE, 4, 4 * 16 * 2**20)
    process = psutil.Process()
    with hidden_states(shapes, placed, tmp_path / "pass", {}, dtype=torch.float32, device="cpu") as states:
        given = torch.full(shapes[0], 1.0)
        before = process.memory_info().rss
        for _ in range(2):
            for batch in range(4):
                states.put(batch, given)
            states.finish()
        assert process.memory_info().rss - before < 40 * 2**20
        assert all(bool((states.get(batch) == 1).all()) for batch in range(4))


@pytest.mark.parametrize("first", [RAM, FILE])
@pytest.mark.parametrize("then", [RAM, FILE])
def test_a_pass_is_taken_up_wherever_its_states_were(tmp_path, monkeypatch, first, then):
    """Begun in one place and gone on with in another, behind three parts and with two of three batches."""
    monkeypatch.setattr(streaming_states, "_SHARE", 0)
    shapes = [torch.Size((1, 3, 4)), torch.Size((2, 1, 4)), torch.Size((1, 5, 4))]
    sizes = sum(shape.numel() for shape in shapes) * 4
    options = {"dtype": torch.bfloat16, "device": "cpu"}
    placed = {place: Placed(place, 3, sizes) for place in (RAM, FILE)}
    with pytest.raises(KeyboardInterrupt), hidden_states(
        shapes, placed[first], tmp_path / "pass", {"a": 1}, **options
    ) as states:  # fmt: skip
        for part in range(4):
            for batch in range(states.batches):
                states.put(batch, torch.full(shapes[batch], 10.0 * part + batch))
            if part == 2:
                states.batches = 2
            if part == 3:
                raise KeyboardInterrupt
            states.finish()
    with hidden_states(shapes, placed[then], tmp_path / "pass", {"a": 1}, **options) as states:
        assert (states.finished, states.batches) == (3, 2)
        assert [states.get(batch).unique().tolist() for batch in range(2)] == [[20.0], [21.0]]
    assert not (tmp_path / "pass").exists()


def test_states_without_room_for_all_are_asked_in_several_passes(deep, reads):
    _, writer = resident(deep, "options")
    items = questions(24, 0)
    with StreamedModel(deep, PackedOptions()) as model:
        expected = model.score(writer, items, TOKENS)
        once = sum(reads.values())
    reads.clear()
    with StreamedModel(deep, PackedOptions(), room=Room(ram=130_000)) as model:
        assert model.score(writer, items, TOKENS) == pytest.approx(expected, abs=1e-6)
    assert sum(reads.values()) in (2 * once, 3 * once, 4 * once)


def test_the_place_of_hidden_states_is_the_nearest_with_room_for_most(tmp_path, monkeypatch):
    free = {"free": 10**9 + 2 * 500}
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: types.SimpleNamespace(**free))
    sizes = [100] * 6
    for given, device, expected in [
        (Room(), "cpu", (RAM, 6, 600)),
        (Room(device=10**6, ram=10**6), "cpu", (RAM, 6, 600)),
        (Room(device=10**6, ram=10**6), "cuda:0", (DEVICE, 6, 600)),
        (Room(device=400, ram=10**6), "cuda", (RAM, 6, 600)),
        (Room(device=400, ram=300), "cuda", (DEVICE, 4, 400)),
        (Room(ram=300), "cpu", (RAM, 3, 300)),
        (Room(ram=300, folder=tmp_path), "cpu", (FILE, 5, 500)),
        (Room(ram=100, folder=tmp_path, disk=400), "cpu", (FILE, 2, 200)),
        (Room(ram=550, folder=tmp_path), "cpu", (RAM, 5, 500)),
    ]:
        assert given.placed(sizes, device) == expected
    # Copies of what is in memory need room on the disk too.
    for disk, expected in ((None, tmp_path), (1200, tmp_path), (800, None)):
        assert Room(folder=tmp_path, disk=disk).folder_for(Placed(RAM, 5, 500)) == expected
    # What is left of the same memory may hold weights.
    assert Room(ram=1000, resident=None).kept(Placed(RAM, 6, 600), "cpu") == 400
    assert Room(ram=1000, resident=None).kept(Placed(FILE, 6, 600), "cpu") == 1000
    assert Room(device=900, ram=1000, resident=None).kept(Placed(RAM, 6, 600), "cuda") == 900
    assert Room(device=900, ram=1000, resident=7).kept(Placed(DEVICE, 6, 600), "cuda") == 7
