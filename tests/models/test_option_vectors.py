"""An option's vector is what its head scores, or what the bi-encoder compares: by independent ways."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ranker_toys import asked, backbone

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.models.answering.forms import FORMS, form_of
from kaggle_rag.models.answering.option_vectors import option_vectors
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.models.loading import load_backbone
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import ConfigError
from training.rankers.peft_methods import with_method

ITEMS = [
    asked("the right ?", ("amber", None, "birch cedar delta", "frost"), ("grove amber",) * 4, 2),
    asked("Is the right heron ?", ("ember", "heron grove"), ("delta " * 6,) * 2, 0),
]
PRESENT = torch.tensor([[1, 0, 1, 1], [1, 1, 0, 0]]).bool()


def load(name, form, **options):
    torch.manual_seed(0)
    found = load_backbone(name, form, device="cpu", **options)
    found.model.eval()
    return found


def batched(found, items=ITEMS):
    writer = Writer(found.tokenizer, found.form.layout, 64)
    return found.collator()([found.form.encode(writer, item) for item in items])


def head_of(model):
    """The scoring layer by the names that transformers gives it, or that of the copy that peft trains."""
    head = getattr(getattr(model, "base_model", model), "model", model).classifier
    head = head.modules_to_save["default"] if hasattr(head, "modules_to_save") else head
    return getattr(head, "out_proj", head)


@pytest.mark.parametrize("kind", ["bert", "deberta-v2", "electra", "roberta"])
@pytest.mark.parametrize(
    "form, options", [("choice", {}), ("binary", {}), ("binary", {"labels": 2}), ("reward", {})]
)
def test_the_head_makes_the_logits_of_these_vectors(kind, form, options, tmp_path):
    found = load(str(backbone(kind, tmp_path)), form, **options)
    batch = batched(found)
    with torch.no_grad():
        logits, vectors = found.form.with_vectors(found.model, batch)
        head = head_of(found.model)
        scores = F.linear(vectors, head.weight, head.bias)
        assert scores.shape[-1] == options.get("labels", 1) and vectors.shape == (2, 4, 64)
        made = scores[..., 0].masked_fill(~PRESENT, torch.finfo(torch.float32).min)
        if scores.shape[-1] == 2:
            made = found.form.combined(scores, batch)
        torch.testing.assert_close(logits, made)
        assert torch.equal(logits, found.form.logits(found.model, batch))
        # No hook stays behind.
        assert not head._forward_pre_hooks


def test_they_are_the_pooled_vectors_of_a_bert(tmp_path):
    found = load(str(backbone("bert", tmp_path)), "choice")
    batch = batched(found)
    with torch.no_grad():
        _, vectors = found.form.with_vectors(found.model, batch)
        pooled = found.model.bert(**found.form.flat(batch)).pooler_output.view(2, 4, -1)
    torch.testing.assert_close(vectors, pooled)


@pytest.mark.parametrize("rank", [1, 4])
def test_an_adapter_s_own_head_is_read_and_its_small_layers_are_not(rank, tmp_path):
    found = load(str(backbone("roberta", tmp_path)), "binary")
    model = with_method(found, "lora", {"r": rank, "lora_dropout": 0.0}).eval()
    with torch.no_grad():
        head = head_of(model)
        head.weight += 1
        logits, vectors = found.form.with_vectors(model, batched(found))
        scores = F.linear(vectors, head.weight, head.bias)[..., 0]
    torch.testing.assert_close(logits[PRESENT], scores[PRESENT])


def test_those_of_the_bi_encoder_are_its_texts_one_by_one():
    found = load(DEFAULT_ENCODER, "bi-encoder")
    batch = batched(found)
    with torch.no_grad():
        logits, vectors = found.form.with_vectors(found.model, batch)
        assert torch.equal(logits, found.form.logits(found.model, batch))
    encoder = Encoder(DEFAULT_ENCODER, device="cpu")
    for row, item in enumerate(ITEMS):
        for place in item.places:
            texts = [item.prompt, item.options[place], f"{item.prompt} {item.options[place]}"]
            expected = np.concatenate(encoder.encode_queries(texts))
            np.testing.assert_allclose(vectors[row, place], expected, atol=1e-5)


@pytest.mark.parametrize("tokens", [24, 2048])
def test_vectors_of_many_questions_are_those_of_each_alone(tokens, tmp_path):
    found = load(str(backbone("bert", tmp_path)), "choice")
    words = ("amber", "birch", "cedar")
    items = [asked("the right ?", words, ("delta " * (n % 5),) * 3, 0) for n in range(9)] + ITEMS
    writer = Writer(found.tokenizer, found.form.layout, 64)
    table = option_vectors(found, writer, items, 5, tokens)
    assert table.shape == (11, 5, 64) and table.dtype == np.float32
    for row, item in enumerate(items):
        with torch.no_grad():
            _, vectors = found.form.with_vectors(found.model, batched(found, [item]))
        unit = F.normalize(vectors[0], dim=-1).numpy()
        for place in range(5):
            known = place in item.places
            np.testing.assert_allclose(table[row, place], unit[place] if known else 0, atol=1e-5)


def test_what_overflows_is_no_vector(tmp_path):
    found = load(str(backbone("bert", tmp_path)), "choice")
    with torch.no_grad():
        found.model.bert.pooler.dense.bias[3] = torch.nan
    table = option_vectors(found, Writer(found.tokenizer, found.form.layout, 64), ITEMS, 4)
    assert np.isnan(table[PRESENT.numpy()]).all() and not table[~PRESENT.numpy()].any()


def test_forms_of_decoders_have_none():
    kinds = {(name, family): form_of(name, family).option_vector for name in FORMS for family in FORMS[name]}
    assert {key for key, kind in kinds.items() if kind} == {
        (name, "encoder") for name in ("choice", "bi-encoder", "binary", "reward")
    }
    assert len({kinds[name, "encoder"] for name in ("choice", "binary", "reward")}) == 1
    assert kinds["bi-encoder", "encoder"] != kinds["choice", "encoder"]


def test_a_head_of_another_width_is_told(tmp_path):
    found = load(str(backbone("bert", tmp_path)), "choice")
    found.model.classifier = torch.nn.Linear(63, 1)
    with pytest.raises(ConfigError, match="does not score a vector of the model's width"):
        found.form.with_vectors(found.model, batched(found))
