"""Scores of pairs equal sentence-transformers' own `predict`, whatever the batches are."""

import json
import shutil

import numpy as np
import pytest
from model_toys import tiny_cross_encoder
from sentence_transformers import CrossEncoder as PairModel

from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.retrieval.crossencoder import CrossEncoder
from kaggle_rag.runtime.errors import CheckpointError, ConfigError

QUERIES = ["which metal rusts?", "", "gold", "a" * 100, "which metal rusts?", "é鉄"]
PASSAGES = ["iron rusts", "nothing", "", "gold shines " * 30, "iron rusts", "tin"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_cross_encoder(tmp_path_factory.mktemp("pairs"))


def test_scores_equal_sentence_transformers_own_whatever_the_batch(tiny):
    own = PairModel(str(tiny), device="cpu").predict(list(map(list, zip(QUERIES, PASSAGES))))
    model = CrossEncoder(str(tiny), device="cpu")
    found = model.scores(QUERIES, PASSAGES)
    assert found.dtype == np.float32 and found.shape == (len(QUERIES),) and np.ptp(own) > 0.01
    assert np.abs(found - own).max() < 1e-6
    turned = model.scores(QUERIES[::-1] * 20, PASSAGES[::-1] * 20)[: len(QUERIES)][::-1]
    assert np.abs(turned - own).max() < 1e-5
    assert found[0] == pytest.approx(found[4], abs=1e-6)


NEW = hasattr(PairModel, "preprocess")
declared = pytest.mark.skipif(NEW, reason="this sentence-transformers reads what a folder declares itself")


def beside(folder, out, **settings):
    """A copy of a model with the settings that newer releases write beside it."""
    shutil.copytree(folder, out)
    (out / "config_sentence_transformers.json").write_text(
        json.dumps({"model_type": "CrossEncoder", **settings})
    )
    return str(out)


@declared
def test_a_release_that_does_not_know_prompts_refuses_a_model_that_needs_one(tiny, tmp_path):
    prompted = beside(tiny, tmp_path / "p", prompts={"ask": "rank: "}, default_prompt_name="ask")
    with pytest.raises(CheckpointError, match=r"too old for this model[\s\S]*pip install"):
        CrossEncoder(prompted, device="cpu")


@declared
def test_an_activation_that_a_newer_release_wrote_is_used(tiny, tmp_path):
    raw = beside(tiny, tmp_path / "raw", activation_fn="torch.nn.modules.linear.Identity")
    logits = CrossEncoder(raw, device="cpu").scores(QUERIES, PASSAGES)
    squashed = CrossEncoder(str(tiny), device="cpu").scores(QUERIES, PASSAGES)
    assert np.abs(1 / (1 + np.exp(-logits)) - squashed).max() < 1e-6 < np.abs(logits - squashed).max()


@pytest.mark.skipif(not NEW, reason="this sentence-transformers has no prompts for pairs")
def test_a_default_prompt_of_the_model_is_put_before_its_pairs(tiny, tmp_path):
    model = PairModel(str(tiny), device="cpu", prompts={"ask": "rank: "}, default_prompt_name="ask")
    model.save_pretrained(str(tmp_path / "prompted"), create_model_card=False)
    found = CrossEncoder(str(tmp_path / "prompted"), device="cpu").scores(QUERIES, PASSAGES)
    own = PairModel(str(tmp_path / "prompted"), device="cpu").predict(list(map(list, zip(QUERIES, PASSAGES))))
    assert np.abs(found - own).max() < 1e-6
    assert np.abs(found - CrossEncoder(str(tiny), device="cpu").scores(QUERIES, PASSAGES)).max() > 1e-3


def test_special_tokens_in_a_pair_are_read_as_its_characters(tiny):
    model = CrossEncoder(str(tiny), device="cpu")
    odd = model.scores(["iron [SEP] gold", "iron"], ["tin", "[CLS] tin"])
    same = model.scores(["iron [ SEP ] gold", "iron"], ["tin", "[ CLS ] tin"])
    assert np.abs(odd - same).max() < 1e-6


def test_a_pair_is_read_to_the_tokens_it_was_given(tiny):
    model = CrossEncoder(str(tiny), device="cpu", max_tokens=16)
    ends = model.scores(["iron"] * 2, ["rustsinthewetairofthesea", "rustsinthewetairofthehills"])
    assert ends[0] == pytest.approx(ends[1], abs=1e-6)
    whole = CrossEncoder(str(tiny), device="cpu").scores(
        ["iron"] * 2, ["rustsinthewetairofthesea", "rustsinthewetairofthehills"]
    )
    assert abs(whole[0] - whole[1]) > 1e-4
    with pytest.raises(ConfigError, match="65 tokens"):
        CrossEncoder(str(tiny), device="cpu", max_tokens=65)


def test_every_finished_pair_is_heard_once_and_no_pairs_have_no_scores(tiny):
    model, heard = CrossEncoder(str(tiny), device="cpu"), []
    model.scores(QUERIES * 10, PASSAGES * 10, on_rows=heard.append)
    assert sum(heard) == 60 and len(heard) > 1
    assert model.scores([], []).shape == (0,)


def test_half_a_surrogate_does_not_stop_it(tiny):
    assert np.isfinite(CrossEncoder(str(tiny), device="cpu").scores(["iron \ud800"], ["\udfff"])).all()


def test_a_model_without_a_trained_head_is_refused_instead_of_scoring_noise(tiny):
    for name in (DEFAULT_ENCODER, str(tiny.parent / "bert")):
        with pytest.raises(CheckpointError, match="no trained head"):
            CrossEncoder(name, device="cpu")


def test_a_model_with_several_scores_a_pair_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="3 scores per pair"):
        CrossEncoder(str(tiny_cross_encoder(tmp_path, scores=3)), device="cpu")


def test_pickled_weights_are_refused(tiny, tmp_path):
    import torch

    folder = shutil.copytree(tiny, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="safetensors"):
        CrossEncoder(str(folder), device="cpu")
