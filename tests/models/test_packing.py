"""Packed rows give the numbers of separate ones: every family, form and order of options, gradients too."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranker_toys import DECODERS, WORDS, asked, backbone, decoder, some
from transformers import AutoModelForCausalLM, BloomConfig, GPT2Config

from kaggle_rag.models import packed_attention, packing
from kaggle_rag.models.answering.packed import PackedCollator, packed_of
from kaggle_rag.models.loading import load_backbone, with_packing
from kaggle_rag.models.packed_trial import fitted
from kaggle_rag.models.writer import Writer

FORMS = ("options", "binary", "reward", "letters")


def questions(count, seed, width=5):
    """Questions of 2 to ``width`` options; of every fourth, each option has a context of its own."""
    rng = np.random.default_rng(seed)

    def words(most):
        return " ".join(rng.choice(WORDS, rng.integers(1, most)))

    made = []
    for number in range(count):
        there = rng.integers(2, width + 1)
        options = [words(5) if column < there else None for column in range(width)]
        shared = words(40)
        texts = [words(20) if number % 4 == 3 else shared for _ in options]
        made.append(asked(words(9), options, texts, int(rng.integers(there))))
    return made


SLIDING = "mistral, sliding"


@pytest.fixture(scope="module", params=some((*DECODERS, SLIDING), "llama", SLIDING))
def loaded(request, tmp_path_factory):
    folder = decoder(request.param, tmp_path_factory.mktemp("decoder"))
    return {form: load_backbone(str(folder), form, device="cpu") for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_packed_scores_are_the_plain_ones(loaded, form):
    plain = loaded[form]
    plain.model.eval()
    packed, reason = with_packing(plain)
    assert not reason and type(packed.form).__name__.startswith("Packed")
    items = questions(24, 0)
    writer = Writer(plain.tokenizer, plain.form.layout, 48)
    expected = plain.form.score(plain, writer, items, rotations=3)
    # Few tokens a batch, and many: a question is not to depend on its neighbours.
    for tokens in (64, 4096):
        scored = packed.form.score(packed, writer, items, tokens, rotations=3)
        assert scored == pytest.approx(expected, abs=1e-5)
    assert len(np.unique(expected.round(6))) > 24


@pytest.mark.parametrize("form", FORMS)
def test_gradients_flow_through_the_shared_prefix(loaded, form):
    plain = loaded[form]
    packed, _ = with_packing(plain)
    items = questions(6, 1)
    writer = Writer(plain.tokenizer, plain.form.layout, 48)
    gradients = []
    for each in (plain, packed):
        batch = each.collator()([each.form.encode(writer, item) for item in items])
        model = copy.deepcopy(plain.model).eval()
        loss = torch.nn.functional.cross_entropy(each.form.logits(model, batch), batch["labels"])
        loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    assert packed.form.lean
    model = copy.deepcopy(plain.model).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    batch = packed.collator()([packed.form.encode(writer, item) for item in items])
    torch.nn.functional.cross_entropy(packed.form.logits(model, batch), batch["labels"]).backward()
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad, gradients[1][name], atol=2e-6, rtol=1e-4, msg=name)
    for name, expected in gradients[0].items():
        if expected is None:
            assert gradients[1][name] is None
        else:
            torch.testing.assert_close(gradients[1][name], expected, atol=2e-6, rtol=1e-4, msg=name)


def test_a_shared_context_is_read_once_and_separate_ones_are_not_packed(loaded):
    packed, _ = with_packing(loaded["options"])
    writer = Writer(packed.tokenizer, packed.form.layout, 48)
    items = questions(4, 2)
    features = [[packed.form.encode(writer, item)] for item in items]
    sizes = packed.collator().sizes(features)
    rows = [len(feature[0]["input_ids"]) for feature in features]
    assert [count for count, _ in sizes] == [1, 1, 1, rows[3]]
    lengths = [sum(map(len, feature[0]["input_ids"])) for feature in features]
    assert all(size < length for (_, size), length in zip(sizes[:3], lengths[:3]))


@settings(max_examples=60, deadline=None)
@given(
    prefix=st.lists(st.integers(5, 40), max_size=6),
    rests=st.lists(st.lists(st.integers(5, 40), min_size=1, max_size=5), min_size=1, max_size=5),
    window=st.none() | st.integers(1, 6),
)
def test_masks_and_places_are_those_of_rows_alone(prefix, rests, window):
    """By loops: a token sees those of its own row before it, inside of the window, and no others."""
    rows = [[*prefix, *rest] for rest in rests]
    sequence = packing.packed(rows)
    batch = packing.tensors([sequence, sequence], [(0, 0), (0, len(sequence))], 2 * len(sequence) + 1, 0)
    seen = packed_attention.visible(batch, window)[0, 0]
    for number, row in enumerate(rows):
        places = [sequence.place(number, token) for token in range(len(row))]
        assert [sequence.ids[place] for place in places] == row
        assert [sequence.positions[place] for place in places] == [*range(len(row))]
        for offset in (0, len(sequence)):
            for token, place in enumerate(places):
                first = 0 if window is None else max(0, token - window + 1)
                expected = {offset + places[other] for other in range(first, token + 1)}
                assert set(torch.nonzero(seen[offset + place])[:, 0].tolist()) == expected
    # Padding sees something: a softmax over nothing is no number.
    assert seen.any(dim=1).all()


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40), spare=st.integers(0, 20))
def test_rows_are_filled_without_overlap(lengths, spare):
    room = max(lengths) + spare
    places = packing.first_fit(lengths, room)
    taken = {}
    for length, (row, offset) in zip(lengths, places):
        assert offset >= 0 and offset + length <= room
        cells = {(row, offset + n) for n in range(length)}
        assert not cells & taken.keys()
        taken |= dict.fromkeys(cells)
    rows = 1 + max(row for row, _ in places)
    # Johnson's bound, against the fewest rows that there could be.
    assert rows <= 11 / 9 * -(-sum(lengths) // room) + max(1, sum(2 * n > room for n in lengths))


def tiny(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def test_a_model_that_cannot_be_packed_says_why():
    small = {"vocab_size": 60, "hidden_size": 32, "n_layer": 1, "n_head": 2}
    assert len(fitted(tiny(BloomConfig(**small)), ["eager"])) == 1
    small = {"vocab_size": 60, "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64}
    assert fitted(tiny(GPT2Config(**small)), ["sdpa"]) == []
    model = tiny(GPT2Config(**small))
    model.config._attn_implementation = "flash_attention_2"
    assert "flash_attention_2" in fitted(model, ["flash_attention_2"])[0]


def test_virtual_tokens_are_not_packed(tmp_path):
    from peft import PrefixTuningConfig, get_peft_model

    loaded = load_backbone(str(backbone("llama", tmp_path)), "options", device="cpu")
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    changed = loaded._replace(model=get_peft_model(loaded.model, config))
    packed, reason = with_packing(changed)
    assert packed is changed and "virtual tokens" in reason


def test_an_encoder_has_no_packed_form(tmp_path):
    loaded = load_backbone(str(backbone("bert", tmp_path)), "choice", device="cpu")
    assert packed_of(loaded.form) is None and with_packing(loaded) == (loaded, "")
    assert not isinstance(loaded.collator(), PackedCollator)


def test_an_encoder_decoder_encodes_a_question_once(tmp_path, monkeypatch):
    loaded = load_backbone(str(backbone("t5", tmp_path)), "options", device="cpu")
    loaded.model.eval()
    writer = Writer(loaded.tokenizer, loaded.form.layout, 48)
    items = questions(8, 3)
    features = [[loaded.form.encode(writer, item)] for item in items]
    shared = [1 if len({*map(tuple, f["input_ids"])}) == 1 else len(f["input_ids"]) for (f,) in features]
    assert [rows for rows, _ in loaded.collator().sizes(features)] == shared and 1 in shared
    scored = loaded.form.score(loaded, writer, items)
    for row, item in enumerate(items):
        for place in item.places:
            # By the library alone: its loss is the mean negative log-likelihood of the labels.
            read = writer.question(item.context(place), item.prompt, item.options, place).ids
            answer = loaded.tokenizer(text_target=item.options[place])["input_ids"]
            with torch.inference_mode():
                out = loaded.model(input_ids=torch.tensor([read["input_ids"]]), labels=torch.tensor([answer]))
            assert scored[row, place] == pytest.approx(-float(out.loss), abs=1e-5)


def test_virtual_tokens_of_an_encoder_decoder_are_read_through_its_adapter(tmp_path):
    from peft import PromptTuningConfig, get_peft_model

    loaded = load_backbone(str(backbone("t5", tmp_path)), "options", device="cpu")
    plain = loaded.form.score(loaded, writer := Writer(loaded.tokenizer, loaded.form.layout, 48), [
        item := questions(1, 3)[0]
    ])  # fmt: skip
    torch.manual_seed(0)
    config = PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=4)
    adapted = loaded._replace(model=get_peft_model(loaded.model, config).eval())
    scored = adapted.form.score(adapted, writer, [item])
    for place in item.places:
        read = writer.question(item.context(place), item.prompt, item.options, place).ids
        answer = loaded.tokenizer(text_target=item.options[place])["input_ids"]
        with torch.inference_mode():
            out = adapted.model(
                input_ids=torch.tensor([read["input_ids"]]),
                attention_mask=torch.tensor([read["attention_mask"]]), labels=torch.tensor([answer]),
            )  # fmt: skip
        assert scored[0, place] == pytest.approx(-float(out.loss), abs=1e-5)
    assert abs(scored - plain)[0, item.places].max() > 1e-4
