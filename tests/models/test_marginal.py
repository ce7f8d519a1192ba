"""Snippets read apart: the mixture that an enumerated loop gives, by answers and token by token."""

import math

import numpy as np
import pytest
import torch
from ranker_toys import backbone

from kaggle_rag.data.contexts import Snippet
from kaggle_rag.models import own_adapters
from kaggle_rag.models.answering.item import Item
from kaggle_rag.models.answering.marginal import Mixing, marginal
from kaggle_rag.models.knowledge import KnowledgeConfig
from kaggle_rag.models.loading import load_backbone, with_knowledge, with_packing
from kaggle_rag.models.writer import Writer
from kaggle_rag.rankers.mixing import MIXED
from kaggle_rag.runtime.errors import ConfigError
from training.rankers.losses import LOSSES

T = 0.2
FIRST = (Snippet("", "grove amber", 0.9), Snippet("", "frost delta delta", 0.5), Snippet("", "cedar", 0.4))
OTHER = (Snippet("", "ember heron", 0.3), Snippet("", "birch", 0.1))
ITEMS = [
    Item("the right ?", ("amber", None, "birch cedar delta", "frost"), (FIRST,) * 4, 2),
    Item("Is the right heron ?", ("ember", "heron grove"), (FIRST[:2], OTHER), 0),
    Item("the right frost ?", ("frost", "amber cedar"), ((), ()), 1),
]  # fmt: skip
FORMS = [
    ("bert", "choice"), ("bert", "binary"), ("bert", "bi-encoder"), ("llama", "binary"),
    ("llama", "letters"), ("mistral", "options"), ("phi3", "options"), ("t5", "letters"), ("t5", "options"),
]  # fmt: skip


def load(kind, form, folder, *, packed=False):
    torch.manual_seed(0)
    found = load_backbone(str(backbone(kind, folder)), form, device="cpu")
    found.model.eval()
    return with_packing(found)[0] if packed else found


def writer(found):
    return Writer(found.tokenizer, found.form.layout, 64)


def priors(item):
    """p(z | q) by hand, and the contexts of each z."""
    count = max([len(context) for context, option in zip(item.contexts, item.options) if option], default=0)
    parts, weights = [], []
    for rank in range(max(count, 1)):
        contexts = tuple(context[rank : rank + 1] for context in item.contexts)
        scores = [c[0].score for c, option in zip(contexts, item.options) if option and c]
        parts.append(contexts)
        weights.append(math.exp(sum(scores) / len(scores) / T) if scores else 1.0)
    return parts, [weight / sum(weights) for weight in weights]


def softmax(logits, item):
    powers = [math.exp(x) if option else 0.0 for x, option in zip(logits, item.options)]
    return np.array(powers) / sum(powers)


def enumerated(found, item):
    """p(option | q), one question and one snippet after the other."""
    total = np.zeros(len(item.options))
    for contexts, weight in zip(*priors(item)):
        part = item._replace(contexts=contexts)
        logits = found.form.score(found, writer(found), [part], quiet=True)[0]
        total += weight * softmax(logits, item)
    return total


@pytest.mark.parametrize(("kind", "form"), FORMS, ids=lambda each: each)
def test_the_mixture_of_answers_is_the_enumerated_one(kind, form, tmp_path):
    found = load(kind, form, tmp_path)
    mixture = found._replace(form=marginal(found.form, Mixing("sequence", T)))
    scores = mixture.form.score(mixture, writer(found), ITEMS, quiet=True)
    batch = mixture.collator()([mixture.form.encode(writer(found), item) for item in ITEMS])
    with torch.no_grad():
        logits = mixture.form.logits(mixture.model, batch).numpy()
    for row, item in enumerate(ITEMS):
        wanted = enumerated(found, item)
        for table in (scores, logits):
            np.testing.assert_allclose(softmax(table[row], item), wanted, atol=1e-5)
            there = [option is not None for option in item.options]
            # They are logarithms of probabilities as they are.
            assert np.exp(table[row][: len(there)][there]).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("form", ["binary", "letters", "options"])
def test_packed_rows_give_the_same_mixture(form, tmp_path):
    plain, packed = (load("llama", form, tmp_path / str(way), packed=way) for way in (False, True))
    assert type(packed.form) is not type(plain.form)
    for kind in MIXED if form == "options" else MIXED[:1]:
        both = [each._replace(form=marginal(each.form, Mixing(kind, T))) for each in (plain, packed)]
        first, second = (each.form.score(each, writer(plain), ITEMS, quiet=True) for each in both)
        np.testing.assert_allclose(first, second, atol=1e-4)


def tokens_by_hand(found, item, contexts, place):
    """log p of each token of an option behind one snippet, by a forward pass of its own."""
    part = item._replace(contexts=contexts)
    feature = found.form.encode(writer(found), part)
    column = item.places.index(place)
    if "answers" in feature:
        answer = feature["answers"][column]
        row = torch.tensor([feature["input_ids"][column]])
        start = found.model.config.decoder_start_token_id
        logits = found.model(input_ids=row, decoder_input_ids=torch.tensor([[start, *answer[:-1]]])).logits[0]
        likely = logits.log_softmax(-1)
        return [float(likely[n, token]) for n, token in enumerate(answer)]
    ids, own = feature["input_ids"][column], feature["is_answer"][column]
    likely = found.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return [float(likely[n - 1, token]) for n, token in enumerate(ids) if own[n]]


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_the_mixture_of_tokens_is_the_enumerated_one(kind, tmp_path):
    found = load(kind, "options", tmp_path)
    mixture = found._replace(form=marginal(found.form, Mixing("token", T)))
    scores = mixture.form.score(mixture, writer(found), ITEMS, quiet=True)
    for row, item in enumerate(ITEMS):
        parts, weights = priors(item)
        for place in item.places:
            with torch.no_grad():
                tables = [tokens_by_hand(found, item, contexts, place) for contexts in parts]
            mixed = [
                math.log(sum(w * math.exp(x) for w, x in zip(weights, likely))) for likely in zip(*tables)
            ]
            assert scores[row, place] == pytest.approx(sum(mixed) / len(mixed), abs=1e-5)


@pytest.mark.parametrize("kind", MIXED)
def test_one_snippet_is_what_is_read_together(kind, tmp_path):
    found = load("llama", "options", tmp_path)
    items = [item._replace(contexts=tuple(c[:1] for c in item.contexts)) for item in ITEMS]
    plain = found.form.score(found, writer(found), items, quiet=True)
    mixture = found._replace(form=marginal(found.form, Mixing(kind, T)))
    mixed = mixture.form.score(mixture, writer(found), items, quiet=True)
    for row, item in enumerate(items):
        np.testing.assert_allclose(softmax(mixed[row], item), softmax(plain[row], item), atol=1e-6)


def test_the_loss_and_its_gradient_are_those_of_the_enumerated_mixture(tmp_path):
    found = load("llama", "binary", tmp_path)
    mixture = found._replace(form=marginal(found.form, Mixing("sequence", T)))
    batch = mixture.collator()([mixture.form.encode(writer(found), item) for item in ITEMS])
    LOSSES[mixture.form.loss](mixture.form.logits(mixture.model, batch), batch, 0.0).backward()
    ours = {name: weight.grad.clone() for name, weight in found.model.named_parameters()}
    found.model.zero_grad()
    losses = []
    for item in ITEMS:
        total = 0
        for contexts, weight in zip(*priors(item)):
            part = found.collator()([found.form.encode(writer(found), item._replace(contexts=contexts))])
            total = total + weight * found.form.logits(found.model, part).softmax(1)[0, item.answer]
        losses.append(-total.log())
    torch.stack(losses).mean().backward()
    assert any(gradient.abs().max() > 1e-4 for gradient in ours.values())
    for name, weight in found.model.named_parameters():
        torch.testing.assert_close(ours[name], weight.grad, atol=1e-5, rtol=1e-3)


def test_snippets_without_scores_count_alike():
    texts = tuple(Snippet("", text) for text in ("amber", "birch"))
    item = Item("the right ?", ("amber", "birch"), (texts, texts), 0)
    mixing = Mixing("sequence", T)
    np.testing.assert_allclose(np.exp(mixing.log_priors(mixing.apart(item))), [0.5, 0.5])


def test_tokens_are_mixed_behind_a_prefix_only_where_its_form_reads_tokens(tmp_path):
    decoder, encoder = backbone("llama", tmp_path / "llama"), backbone("bert", tmp_path / "bert")
    for form in ("options", "binary"):
        loaded = load_backbone(str(decoder), form, device="cpu")
        own_adapters.attach(loaded.model, KnowledgeConfig(str(encoder)))
        prefixed = with_knowledge(loaded).form
        if form == "options":
            assert marginal(prefixed, Mixing("token", 1.0)).mixing.kind == "token"
        else:
            with pytest.raises(ConfigError, match="token by token"):
                marginal(prefixed, Mixing("token", 1.0))


def test_tokens_are_mixed_only_where_options_are_read_by_tokens(tmp_path):
    found = load("llama", "letters", tmp_path)
    with pytest.raises(ConfigError, match="token by token"):
        marginal(found.form, Mixing("token", T))
