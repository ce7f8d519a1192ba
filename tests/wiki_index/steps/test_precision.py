"""What an index is computed in: near float32, decided once, kept by every later run."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from build_toys import call, same
from conftest import ROWS
from model_toys import TEXTS, tiny_model
from sentence_transformers import SentenceTransformer

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.index.manifest import MANIFEST, Manifest
from kaggle_rag.index.precision import LEAST_COSINE, PROBES, half_for, is_faster
from kaggle_rag.runtime.errors import ArtifactError, ConfigError
from kaggle_rag.text.units import Unit
from wiki_index.build import build
from wiki_index.corpus import Corpus
from wiki_index.plan import Plan


@pytest.fixture(scope="module")
def half(tiny):
    """The tiny encoder, whose indexes are computed in bfloat16."""
    return Encoder(tiny.card.name, device="cpu", precision="bf16")


@pytest.fixture
def plan(corpus, half, tmp_path):
    # The retriever has the name that the command line gives it.
    return Plan(Corpus.open(corpus), tmp_path / "out", {"model": half}, Unit("sentence"))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_vectors_for_an_index_are_near_sentence_transformers_own(encoder, precision):
    reduced = Encoder(device="cpu", precision=precision)
    texts = [*TEXTS, *PROBES]
    own = encoder.model.encode(texts, normalize_embeddings=True)
    vectors = reduced.encode_for_index(texts)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors.astype(float), axis=1), 1, atol=1e-6)
    assert 1 - 1e-6 > (vectors * own).sum(axis=1).min() >= LEAST_COSINE
    assert np.array_equal(reduced.encode_for_index(texts), vectors)
    # What is asked is computed in float32, whatever the index is.
    assert np.array_equal(reduced.encode_queries(texts), encoder.encode_queries(texts))
    assert np.abs(reduced.encode_passages(texts) - own).max() < 1e-5


def test_the_encoder_of_an_index_computes_as_the_index_was(half, tiny):
    again = Encoder.of_index(half.card, device="cpu")
    assert np.array_equal(again.encode_for_index(TEXTS), half.encode_for_index(TEXTS))
    assert np.abs(again.encode_for_index(TEXTS) - tiny.encode_for_index(TEXTS)).max() > 1e-5
    assert np.array_equal(tiny.encode_for_index(TEXTS), tiny.encode_passages(TEXTS))


def test_a_precision_that_does_not_suit_a_model_is_not_taken(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr("kaggle_rag.index.encoder.half_for", lambda device: "fp16")
    assert Encoder(tiny.card.name, device="cpu", precision="auto").card.precision == "fp16"
    folder = tiny_model(tmp_path)
    model = SentenceTransformer(str(folder), device="cpu")
    with torch.no_grad():
        # float16 ends at 65504; layer normalisation makes this harmless in float32.
        model[0].auto_model.encoder.layer[0].output.dense.weight *= 1e7
    model.save(str(folder), create_model_card=False)
    wild = Encoder(str(folder), device="cpu", precision="auto")
    assert wild.card.precision == "fp32"
    assert np.array_equal(wild.encode_for_index(TEXTS), wild.encode_passages(TEXTS))


def test_only_a_cpu_is_measured():
    assert half_for("cuda") == half_for("cuda:1") == "fp16"
    assert (half_for("cpu"), half_for("mps")) == ("bf16", "fp32")


def paced(full, half):
    """Two works of so many seconds a turn, what they did in order, and their clock."""
    now, done = [0.0], []

    def work(name, seconds):
        turns = iter(seconds)

        def step():
            done.append(name)
            now[0] += next(turns)

        return step

    return work("full", full), work("half", half), lambda: now[0], done


@pytest.mark.parametrize(
    "full, half, faster",
    [
        (0.10, 0.05, True),
        (0.10, 0.17, False),
        # Less than a tenth is what two runs of the same differ by.
        (0.10, 0.095, False),
        # A large model is timed once.
        (6.0, 3.0, True),
        (3.0, 60.0, False),
    ],
)
def test_a_half_precision_must_be_clearly_faster(full, half, faster):
    first, second, clock, done = paced([full] * 50, [half] * 50)
    assert is_faster(first, second, clock) is faster
    # In turns, each as often as the other, for about a second.
    assert done[::2] == ["full"] * (len(done) // 2) and done[1::2] == ["half"] * (len(done) // 2)
    assert 1 <= clock() <= max(1 + full + half, full + half)


def test_one_disturbed_turn_decides_nothing():
    disturbed = [0.1, 0.1, 0.1, 0.05, 0.9, *[0.1] * 50]
    first, second, clock, _ = paced(disturbed, [0.1] * 50)
    assert not is_faster(first, second, clock)
    first, second, clock, _ = paced([0.1] * 50, [0.05, 0.05, 0.9, *[0.05] * 50])
    assert is_faster(first, second, clock)


@pytest.mark.parametrize("faster, precision", [(True, "bf16"), (False, "fp32")])
def test_auto_times_the_model_itself_and_keeps_what_it_found(tiny, monkeypatch, faster, precision):
    timed = []

    def measured(full, half):
        timed.append((full(), half()))
        return faster

    monkeypatch.setattr("kaggle_rag.index.encoder.is_faster", measured)
    encoder = Encoder(tiny.card.name, device="cpu", precision="auto")
    assert encoder.card.precision == precision
    ((full, half),) = timed
    assert np.array_equal(full, tiny.encode_passages(PROBES))
    assert 0 < np.abs(full - half).max() < 0.1
    again = Encoder.of_index(encoder.card, device="cpu")
    assert again.card.precision == precision and len(timed) == 1
    if not faster:
        assert np.array_equal(encoder.encode_for_index(TEXTS), tiny.encode_for_index(TEXTS))


def test_the_real_measurement_ends_and_says_one_of_two(tiny):
    assert Encoder(tiny.card.name, device="cpu", precision="auto").card.precision in ("fp32", "bf16")


def test_a_precision_that_is_none_is_refused(tiny):
    with pytest.raises(ConfigError, match="auto, fp32, bf16, fp16"):
        Encoder(tiny.card.name, device="cpu", precision="int4")


def stopped(plan, monkeypatch, name, times):
    """Ctrl-C in a step of a build, the so-manieth time it is called."""
    module, _, function = name.rpartition(".")
    real, calls = getattr(sys.modules[module], function), []

    def step(*arguments):
        calls.append(arguments)
        if len(calls) == times:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(name, step)
        build(plan)


def test_a_build_stopped_between_two_shards_ends_with_the_same_bytes(plan, tmp_path, monkeypatch):
    small = dataclasses.replace(plan, shard_rows=ROWS)
    build(small)
    whole = plan.out.rename(tmp_path / "whole")
    stopped(small, monkeypatch, "wiki_index.steps.shard_encoder.encode_texts", 3)
    build(small)
    assert same(plan.out, whole)


def test_a_build_goes_on_in_its_precision_on_a_machine_that_would_choose_another(
    plan, half, tmp_path, monkeypatch, capsys
):
    build(plan)
    whole = plan.out.rename(tmp_path / "whole")
    stopped(plan, monkeypatch, "wiki_index.build.make_index", 1)
    monkeypatch.setattr("kaggle_rag.index.encoder.is_faster", lambda full, half: False)
    command = ["build", plan.corpus.files[0], plan.out, "--encoder", half.card.name]
    assert call(*command, "--precision", "fp32", monkeypatch=monkeypatch) == 2
    assert "an unfinished build already exists, and differs in precision" in capsys.readouterr().err
    assert call(*command, monkeypatch=monkeypatch) == 0 and same(plan.out, whole)
    assert call(*command, monkeypatch=monkeypatch) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert call(*command, "--precision", "fp32", monkeypatch=monkeypatch) == 2
    assert "an index already exists, and differs in precision" in capsys.readouterr().err


def test_the_manifest_says_it_and_one_that_does_not_was_made_in_float32(plan, whole):
    build(plan)
    assert Manifest.read(plan.out).encoder.precision == "bf16"
    assert Manifest.read(whole).encoder.precision == "fp32"
    card = dataclasses.asdict(Manifest.read(whole).encoder)
    del card["precision"]
    assert type(Manifest.read(whole).encoder)(**card) == Manifest.read(whole).encoder


def test_reused_vectors_decide_the_precision_and_no_other_is_mixed_in(
    plan, half, corpus, tmp_path, monkeypatch, capsys
):
    build(plan)
    monkeypatch.setattr("kaggle_rag.index.encoder.is_faster", lambda full, half: False)
    more = tmp_path / "more.jsonl"
    more.write_text(corpus.read_text() + json.dumps({"title": "New", "text": "Tin melts at 232 °C."}) + "\n")
    command = ["build", more, tmp_path / "new", "--encoder", half.card.name, "--reuse", plan.out]
    assert call(*command, "--precision", "fp32", monkeypatch=monkeypatch) == 2
    assert "to reuse" in capsys.readouterr().err
    assert not (tmp_path / "new" / MANIFEST).exists()
    assert call(*command[:2], tmp_path / "auto", *command[3:], monkeypatch=monkeypatch) == 0
    index = Index(tmp_path / "auto")
    assert index.manifest.encoder == half.card
    assert np.array_equal(index.vectors(np.arange(360)), Index(plan.out).vectors(np.arange(360)))
    plain = dataclasses.replace(plan, encoders={"model": Encoder(half.card.name, device="cpu")})
    with pytest.raises(ArtifactError, match="differs in precision"):
        build(plain)
