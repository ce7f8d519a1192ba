"""Snippets as keys and values before a frozen decoder: against loops, and the library's own calls."""

import numpy as np
import pytest
import ranker_toys
import torch
from ranker_toys import WORDS, asked, backbone
from streaming_toys import MORE, checkpoint
from transformers import BertConfig, CLIPConfig, DynamicCache

from kaggle_rag.models import own_adapters
from kaggle_rag.models.answering.marginal import Mixing, marginal
from kaggle_rag.models.knowledge import KnowledgeConfig, Shape, _require_width, _seen
from kaggle_rag.models.loading import load_backbone, with_knowledge
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import ArtifactError, ConfigError
from training.loop.vicreg import spread_loss
from training.rankers.peft_methods import with_method

FORMS = ("options", "binary", "reward", "letters")
SNIPPETS = ["amber birch", "cedar", "delta ember frost grove heron amber", "", "birch birch cedar"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(backbone("bert", tmp_path_factory.mktemp("encoder"), seed=1))


@pytest.fixture(scope="module", params=["llama", "phi3", "mistral, sliding", "gemma2"])
def decoder(request, tmp_path_factory):
    """The last one has layers of both kinds: with a window, and without."""
    made = checkpoint if request.param in MORE else ranker_toys.decoder
    return str(made(request.param, tmp_path_factory.mktemp("decoder")))


def prefixed(decoder, encoder, form="options", **settings):
    torch.manual_seed(0)
    plain = load_backbone(decoder, form, device="cpu")
    own_adapters.attach(plain.model, KnowledgeConfig(encoder, **{"tokens": 3, **settings}))
    plain.model.eval()
    return with_knowledge(plain)


def questions():
    """Of one to four snippets each, one of them empty; in one question each option has its own."""
    made = [
        asked(f"the {WORDS[n]}", ["amber", "birch cedar", "delta"][: 2 + n % 2], ["\n".join(lines)] * 3, 0)
        for n, lines in enumerate([SNIPPETS[:1], SNIPPETS[1:3], SNIPPETS, [], SNIPPETS[4:]])
    ]
    return [*made, asked("the ?", ["frost", "grove"], ["amber\nheron", "delta"], 1)]


@pytest.mark.parametrize("form", FORMS)
def test_questions_in_one_batch_are_answered_as_one_by_one(decoder, encoder, form):
    backbone = prefixed(decoder, encoder, form)
    writer = Writer(backbone.tokenizer, backbone.form.layout, 32)
    items = questions()
    together = backbone.form.score(backbone, writer, items, 100_000)
    alone = np.concatenate([
        np.pad(score, ((0, 0), (0, 3 - score.shape[1])), constant_values=np.finfo(np.float32).min)
        for item in items for score in [backbone.form.score(backbone, writer, [item])]
    ])  # fmt: skip
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
    unread = backbone.form.score(backbone, writer, [item._replace(contexts=((),) * 3) for item in items])
    known = [n for n in range(len(items)) if n != 3]
    assert (np.abs(together - unread)[known].max(axis=1) > 1e-4).all()
    # Without any snippet there is nothing before the rows: the decoder alone.
    plain = backbone._replace(form=backbone.form.form)
    bare = plain.form.score(plain, writer, items[3:4])
    np.testing.assert_allclose(backbone.form.score(backbone, writer, items[3:4]), bare, atol=1e-5)


def test_keys_and_values_are_those_of_a_loop(decoder, encoder):
    knowledge = prefixed(decoder, encoder).model.knowledge
    ids = knowledge.tokenizer(SNIPPETS[:3], padding=True, return_tensors="pt")
    with torch.no_grad():
        found = knowledge(ids["input_ids"], ids["attention_mask"]).numpy()
    shape = Shape(2, 2, 16)
    assert Shape.of(prefixed(decoder, encoder).model.config) == shape and found.shape == (2, 2, 3, 2, 3, 16)
    for number, text in enumerate(SNIPPETS[:3]):
        with torch.no_grad():
            hidden = knowledge.encoder(**knowledge.tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        for position in range(3):
            scores = (hidden @ knowledge.queries[position]).softmax(0)
            summed = knowledge.norm(sum(score * token for score, token in zip(scores, hidden)))
            for layer, kind, head in np.ndindex(2, 2, 2):
                by_hand = summed @ knowledge.projections[layer, kind, head]
                np.testing.assert_allclose(
                    found[layer, kind, number, head, position], by_hand.detach().numpy(), atol=1e-5
                )


def test_a_row_behind_a_prefix_is_the_librarys_own_call_with_past_keys(encoder, tmp_path):
    """For a decoder without a window: there the library's mask is ours."""
    backbone_ = prefixed(str(backbone("llama", tmp_path)), encoder)
    writer = Writer(backbone_.tokenizer, backbone_.form.layout, 32)
    item = asked("the right ?", ["birch cedar", "delta"], ["amber\ncedar delta"] * 2, 0)
    found = backbone_.form.score(backbone_, writer, [item])[0]
    model, knowledge = backbone_.model, backbone_.model.knowledge
    rows = [writer("", item.prompt, item.options, place) for place in (0, 1)]
    for place, row in enumerate(rows):
        read = knowledge.tokenizer(["amber", "cedar delta"], padding=True, return_tensors="pt")
        with torch.no_grad():
            states = knowledge(read["input_ids"], read["attention_mask"])
            cache = DynamicCache()
            for layer in range(2):
                keys, values = (torch.cat([*states[layer, kind]], dim=1)[None] for kind in (0, 1))
                cache.update(keys, values, layer)
            ids = torch.tensor([row.ids["input_ids"]])
            logits = model(
                input_ids=ids, past_key_values=cache, attention_mask=torch.ones(1, 6 + ids.shape[1]),
                position_ids=torch.arange(ids.shape[1])[None],
            ).logits[0].log_softmax(-1)  # fmt: skip
        likely = [logits[at - 1, ids[0, at]] for at in range(1, ids.shape[1]) if row.is_answer[at]]
        assert found[place] == pytest.approx(float(sum(likely)) / len(likely), abs=1e-5)


def test_a_prefix_is_seen_past_the_window_and_a_row_within_it():
    attended = torch.tensor([[0, 1, 1, 1, 1]])
    seen = _seen(attended, torch.tensor([[True, False]]), 2)[0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0, 0], [1, 0, 0, 1, 1, 0, 0], [1, 0, 0, 0, 1, 1, 0],
        [1, 0, 0, 0, 0, 1, 1],
    ]  # fmt: skip


def test_gradients_reach_encoder_and_projections_only(decoder, encoder):
    backbone = prefixed(decoder, encoder)
    writer = Writer(backbone.tokenizer, backbone.form.layout, 32)
    batch = backbone.collator()([backbone.form.encode(writer, item) for item in questions()])
    backbone.form.logits(backbone.model, batch).log_softmax(1)[:, 0].sum().backward()
    for name, weight in backbone.model.named_parameters():
        learns = name.startswith("knowledge.") and ".pooler." not in name
        assert (weight.grad is not None and bool(weight.grad.abs().sum() > 0)) == learns, name


def test_a_decoder_in_4_bits_keeps_the_rest_in_float32(encoder, tmp_path):
    """No gradient scaler takes weights in fp16, and the head of a score learns."""
    folder = str(backbone("llama", tmp_path))
    loaded = load_backbone(folder, "binary", device="cpu", nf4=True, precision="fp16")
    model = with_method(loaded, "knowledge-4bit", {"encoder": encoder})
    dtypes = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
    assert dtypes == {torch.float32} and any(weight.dtype == torch.uint8 for weight in model.parameters())
    assert model.score.weight.requires_grad


def test_a_batch_without_any_snippet_has_gradients_that_are_0(decoder, encoder):
    backbone = prefixed(decoder, encoder)
    writer = Writer(backbone.tokenizer, backbone.form.layout, 32)
    items = [item._replace(contexts=((),) * 3) for item in questions()[:2]]
    batch = backbone.collator()([backbone.form.encode(writer, item) for item in items])
    backbone.form.logits(backbone.model, batch)[:, 0].sum().backward()
    assert float(backbone.model.knowledge.projections.grad.abs().max()) == 0


@pytest.mark.parametrize(("form", "kind"), [("options", "token"), ("binary", "sequence")])
def test_snippets_can_be_mixed_instead_of_side_by_side(decoder, encoder, form, kind):
    whole = prefixed(decoder, encoder, form)
    mixed = whole._replace(form=marginal(whole.form, Mixing(kind, 0.5)))
    writer = Writer(whole.tokenizer, whole.form.layout, 32)
    one = asked("the right ?", ["birch", "delta"], ["amber"] * 2, 0)
    # A single snippet has nothing to be mixed with.
    scores = [each.form.score(each, writer, [one])[0] for each in (whole, mixed)]
    likely = [score - np.logaddexp.reduce(score) for score in scores]
    np.testing.assert_allclose(likely[0], likely[1], atol=1e-5)
    two = asked("the right ?", ["birch", "delta"], ["amber\ncedar delta"] * 2, 0)
    assert np.isfinite(mixed.form.score(mixed, writer, [two])).all()


def test_what_was_saved_answers_alike_and_knows_its_backbone(decoder, encoder, tmp_path):
    backbone_ = prefixed(decoder, encoder)
    own_adapters.save(backbone_.model, tmp_path / "saved")
    writer = Writer(backbone_.tokenizer, backbone_.form.layout, 32)
    fresh = load_backbone(decoder, "options", device="cpu")
    config = own_adapters.read(tmp_path / "saved")
    own_adapters.load(own_adapters.attach(fresh.model, config, tmp_path / "saved"), tmp_path / "saved")
    fresh.model.eval()
    again = with_knowledge(fresh)
    np.testing.assert_array_equal(
        again.form.score(again, writer, questions()), backbone_.form.score(backbone_, writer, questions())
    )
    other = load_backbone(str(backbone("gemma", tmp_path / "other")), "options", device="cpu")
    other.model.config.num_key_value_heads = 4
    with pytest.raises(ArtifactError, match="belongs to another backbone"):
        own_adapters.load(own_adapters.attach(other.model, config, tmp_path / "saved"), tmp_path / "saved")


def test_settings_that_no_model_fits_are_refused(decoder, encoder):
    with pytest.raises(ConfigError, match="longer than the decoder's 64 positions"):
        prefixed(decoder, encoder, tokens=64)
    for settings in ({"tokens": 0}, {"tokens": True}, {"snippet_tokens": -1}, {"vicreg": -1.0}):
        with pytest.raises(ValueError, match="at least"):
            KnowledgeConfig(encoder, **settings)
    with pytest.raises(ConfigError, match="how wide its token vectors are") as told:
        _require_width(CLIPConfig(), "clip")
    assert "peft.options.encoder" in str(told.value)


def test_an_encoder_that_was_exchanged_does_not_fit_its_projections(decoder, encoder, tmp_path):
    own_adapters.save(prefixed(decoder, encoder).model, tmp_path)
    wide = BertConfig.from_pretrained(tmp_path / "knowledge_encoder", hidden_size=32)
    wide.save_pretrained(tmp_path / "knowledge_encoder")
    fresh = load_backbone(decoder, "options", device="cpu").model
    with pytest.raises(ArtifactError, match="belongs to another backbone"):
        own_adapters.load(own_adapters.attach(fresh, own_adapters.read(tmp_path), tmp_path), tmp_path)


def test_what_keeps_vectors_apart_is_the_papers_variance_and_covariance():
    vectors = torch.randn(5, 4, dtype=torch.float64) * torch.tensor([0.1, 0.5, 1.0, 2.0])
    table = np.cov(vectors.numpy().T)
    variance = np.maximum(0, 1 - np.sqrt(np.diag(table) + 1e-4)).mean()
    covariance = (table[~np.eye(4, dtype=bool)] ** 2).sum() / 4
    assert float(spread_loss(vectors)) == pytest.approx(25 * variance + covariance, rel=1e-6)
    assert float(spread_loss(vectors[:1])) == 0
