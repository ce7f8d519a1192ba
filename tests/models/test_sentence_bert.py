"""Encoders by torch alone equal sentence-transformers, or are left to it."""

import inspect
import json
import shutil

import numpy as np
import pytest
from model_toys import TEXTS, tiny_model
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, resolve
from kaggle_rag.models.sentence_bert import sentence_bert

POOLINGS = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
ODD = [*TEXTS, "[SEP] and [MASK]", "ÀÉÎ ß ﬁ Å", "a\x00b\u200bc\ufffd", "x" * 300, " \n\t ", "日本 iron 9.81"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def edit(path, **changes):
    found = json.loads(path.read_text())
    found.update(changes)
    path.write_text(json.dumps({key: value for key, value in found.items() if value != "gone"}))


def asked(folder):
    """The encoder of an index made by a folder's model, as a search opens it."""
    return Encoder.of_index(Encoder(str(folder), device="cpu").card, device="cpu")


def by_library(folder):
    """sentence-transformers' own model, whose tokenizer reads ``[SEP]`` in a text as text."""
    made = SentenceTransformer(str(folder), device="cpu")
    made.tokenizer.split_special_tokens = True
    return made


def agrees(folder):
    own = by_library(folder).encode(ODD, normalize_embeddings=True)
    return np.abs(asked(folder).encode_passages(ODD) - own).max() < 1e-6


@pytest.mark.parametrize("name", ["tiny", DEFAULT_ENCODER])
def test_vectors_and_tokens_are_sentence_transformers_own(name, folder):
    place = folder if name == "tiny" else resolve(name).path
    plain, own = sentence_bert(place, "cpu"), by_library(place)
    assert plain is not None
    for texts in (ODD, ODD[:1]):
        wanted = own.tokenizer(texts, truncation=True, max_length=64)["input_ids"]
        found = plain.tokenizer(texts, truncation=True, max_length=64)["input_ids"]
        assert found == wanted
    assert plain.tokenizer(ODD, add_special_tokens=False) == {
        "input_ids": own.tokenizer(ODD, add_special_tokens=False, truncation=False)["input_ids"]
    }
    assert agrees(place)


def test_weights_by_their_older_names(copy):
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = load_file(copy / "model.safetensors")
    for today, before in old.items():
        weights = {name.replace(today, before): tensor for name, tensor in weights.items()}
    assert "embeddings.LayerNorm.gamma" in weights
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert sentence_bert(copy, "cpu") is not None and agrees(copy)


@pytest.mark.parametrize("mode", [*POOLINGS, ["cls", "mean"]])
@pytest.mark.parametrize("old", [False, True])
def test_every_pooling_is_read_as_it_was_written(copy, mode, old):
    if not old and "embedding_dimension" not in inspect.signature(Pooling.__init__).parameters:
        pytest.skip("sentence-transformers before 5.4 reads no such folder")
    modes = mode if isinstance(mode, list) else [mode]
    names = {"cls": "cls_token"} | {each: f"{each}_tokens" for each in ("mean", "max", "weightedmean")}
    flags = {f"pooling_mode_{names.get(each, each)}": each in modes for each in POOLINGS}
    told = {"word_embedding_dimension": 32, **flags} if old else {
        "embedding_dimension": 32, "pooling_mode": mode, "include_prompt": True
    }  # fmt: skip
    (copy / "1_Pooling" / "config.json").write_text(json.dumps(told))
    assert (sentence_bert(copy, "cpu") is not None) == (mode in ("cls", "mean"))
    assert agrees(copy)


def test_a_normalisation_behind_it_changes_nothing(copy):
    modules = json.loads((copy / "modules.json").read_text())
    kind = "sentence_transformers.models.Normalize"
    modules.append({"idx": 2, "name": "2", "path": "2_Normalize", "type": kind})
    (copy / "modules.json").write_text(json.dumps(modules))
    (copy / "2_Normalize").mkdir()
    assert sentence_bert(copy, "cpu") is not None and agrees(copy)


@pytest.mark.parametrize(
    "file, changes",
    [
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"position_embedding_type": "relative_key"}),
        ("config.json", {"is_decoder": True}),
        ("config.json", {"model_type": "roberta"}),
        ("config.json", {"dtype": "float16"}),
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer"}),
        ("tokenizer_config.json", {"padding_side": "left"}),
        ("tokenizer_config.json", {"truncation_side": "left"}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("sentence_bert_config.json", {"something_new": 1}),
        ("1_Pooling/config.json", {"include_prompt": False}),
    ],
)
def test_what_asks_for_anything_else_is_left_to_the_library(copy, file, changes):
    assert sentence_bert(copy, "cpu") is not None
    edit(copy / file, **changes)
    assert sentence_bert(copy, "cpu") is None


@pytest.mark.parametrize("damage", ["half", "lacking", "beside", "cut"])
def test_other_weights_are_left_to_the_library(copy, damage):
    path = copy / "model.safetensors"
    weights = load_file(path)
    if damage == "half":
        weights = {name: weight.half() for name, weight in weights.items()}
    elif damage == "lacking":
        del weights["encoder.layer.1.output.dense.bias"]
    elif damage == "beside":
        weights["encoder.layer.2.output.dense.bias"] = weights["encoder.layer.1.output.dense.bias"].clone()
    save_file(weights, path, metadata={"format": "pt"})
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    assert sentence_bert(copy, "cpu") is None


def test_a_dense_layer_behind_it_is_left_to_the_library(copy):
    modules = json.loads((copy / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (copy / "modules.json").write_text(json.dumps(modules))
    assert sentence_bert(copy, "cpu") is None


def test_the_whole_library_is_there_when_it_is_asked_for(folder):
    encoder, built = asked(folder), Encoder(str(folder), device="cpu")
    assert np.array_equal(encoder.encode_for_index(ODD), built.encode_for_index(ODD))
    assert isinstance(encoder.model, SentenceTransformer)
