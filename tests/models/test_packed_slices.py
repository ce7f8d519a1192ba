"""Rows in slices behind a cached prefix, and every kind of attention, give the scores of separate rows."""

import numpy as np
import pytest
import torch
from ranker_toys import DECODERS, WINDOW, WORDS, asked, some
from streaming_toys import MORE, checkpoint
from test_packing import FORMS, questions
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Phi3Config

from kaggle_rag.models import packing
from kaggle_rag.models.loading import load_backbone, with_packing
from kaggle_rag.models.packed_attention import FLEX, PACKED_SDPA, causal_start, implementations, visible
from kaggle_rag.models.packed_outputs import last_feed_forward, token_logits
from kaggle_rag.models.packed_slices import slices
from kaggle_rag.models.packed_trial import can_be_lean, can_be_sliced, fitted
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import LimitError


# A plain one, and one with all that a family may have.
@pytest.fixture(scope="module", params=some((*DECODERS, *MORE), "llama", "gemma2"))
def folder(request, tmp_path_factory):
    return str(checkpoint(request.param, tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return str(checkpoint("llama", tmp_path_factory.mktemp("llama")))


def loaded(folder, form):
    """The model with a row an option, and its writer."""
    plain = load_backbone(folder, form, device="cpu")
    plain.model.eval()
    return plain, Writer(plain.tokenizer, plain.form.layout, 48)


def lengths(model):
    """The tokens of each call of a model from now on."""
    found = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _, args: found.append(args[0].numel()))
    return found


def limited(model, most):
    """Let a model run out of memory when it is called with more tokens."""

    def refuse(module, args):
        if args[0].numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return model.get_input_embeddings().register_forward_pre_hook(refuse)


@pytest.mark.parametrize("form", FORMS)
def test_slices_give_the_plain_scores(folder, form):
    plain, writer = loaded(folder, form)
    items = questions(12, 0)
    expected = plain.form.score(plain, writer, items, rotations=2)
    packed, _ = with_packing(plain)
    assert packed.form.sliced and packed.form.lean
    called = lengths(packed.model)
    # Shorter than a branch, than the prefix and than the whole; a window ends inside of a slice.
    for tokens in (3, WINDOW + 2, 30):
        scored = packed.form.score(packed, writer, items, tokens, rotations=2)
        assert scored == pytest.approx(expected, abs=1e-5)
        assert max(called) <= tokens
        called.clear()


def test_a_question_that_does_not_fit_is_asked_in_slices(llama, capsys):
    plain, writer = loaded(llama, "options")
    options = [" ".join(WORDS[n : n + 4]) for n in range(5)]
    items = [asked(f"which {word}", options, (" ".join(WORDS * 5),) * 5, 0) for word in WORDS[:3]]
    writer.max_tokens = 96
    expected = plain.form.score(plain, writer, items)
    packed, _ = with_packing(plain)
    called = lengths(packed.model)
    barrier = limited(packed.model, 40)
    assert packed.form.score(packed, writer, items) == pytest.approx(expected, abs=1e-5)
    # The first of the questions alone is too long, and so is what one of them is cut into at first.
    assert max(called) > 40 and called[-1] <= 40
    assert capsys.readouterr().err.count("out of memory") >= 2
    barrier.remove()
    limited(packed.model, 3)
    with pytest.raises(LimitError, match="one question does not fit"):
        packed.form.score(packed, writer, items)


def test_what_no_later_slice_sees_is_dropped(llama):
    plain, _ = loaded(llama, "options")
    rows = [[*range(5, 17), *range(20 + n, 24 + n)] for n in range(3)]
    sequence = packing.packed(rows)
    batch = packing.tensors([sequence], [(0, 0)], len(sequence) + 3, 0)
    batch["reads"] = torch.tensor([11, 15, 23])
    kept = []
    for given, reads in slices(plain.model, batch, 5):
        kept.append((given["past_key_values"].get_seq_length(), reads.tolist()))
        token_logits(plain.model, given, reads)
    # Five slices of 24 tokens, of which 12 are shared; the branches begin at 12, 16 and 20.
    assert kept == [(0, []), (4, []), (9, [2]), (14, [1]), (15, [4])]


def test_the_last_layer_leaves_out_what_is_not_read(llama):
    plain, writer = loaded(llama, "binary")
    packed, _ = with_packing(plain)
    seen = []
    last_feed_forward(packed.model).register_forward_hook(lambda _, args, out: seen.append(args[0].shape[1]))
    items = questions(3, 0)
    options = sum(len(item.places) for item in items)
    packed.form.score(packed, writer, items, 4096)
    # One token an option: the last.
    assert seen == [options]
    # A part that mixes tokens must see all of them.
    mixed, _ = loaded(llama, "binary")
    last_feed_forward(mixed.model).register_forward_hook(lambda _, args, out: 50 * out.mean(1, keepdim=True))
    assert not can_be_lean(mixed.model)


def test_slices_are_tried_before_they_are_used():
    def made(config):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).eval()

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
             "vocab_size": 60, "pad_token_id": 0}  # fmt: skip
    assert can_be_sliced(made(LlamaConfig(**small)))
    assert can_be_sliced(made(GPT2Config(vocab_size=60, n_embd=32, n_layer=1, n_head=2)))
    # Its frequencies change with the longest position of a call, which a slice does not know.
    scaled = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8,
              "original_max_position_embeddings": 16}  # fmt: skip
    assert not can_be_sliced(made(Phi3Config(**small, rope_parameters=scaled)))
    broken = made(LlamaConfig(**small))
    broken.model.layers[0].self_attn.layer_idx = None
    assert not can_be_sliced(broken)


def test_flex_attention_gives_the_plain_scores(folder):
    """Uncompiled: a kernel takes a minute to compile."""
    plain, writer = loaded(folder, "options")
    items = questions(2, 0)
    expected = plain.form.score(plain, writer, items)
    with torch.compiler.set_stance("force_eager"):
        packed, reason = with_packing(plain, "flex")
        assert not reason and packed.model.config._attn_implementation == FLEX
        scored = packed.form.score(packed, writer, items, 4096)
        assert scored == pytest.approx(expected, abs=1e-4)
        # Slices have more keys than queries.
        scored = packed.form.score(packed, writer, items[:1], 20)
        assert scored == pytest.approx(expected[:1], abs=1e-4)


def test_sdpa_in_parts_gives_the_plain_scores(folder, monkeypatch):
    plain, writer = loaded(folder, "options")
    before = plain.model.config._attn_implementation
    items = questions(8, 0)
    expected = plain.form.score(plain, writer, items)
    packed, reason = with_packing(plain)
    # Gemma 2 bends its logits before the softmax.
    wanted = before if getattr(plain.model.config, "attn_logit_softcapping", None) else PACKED_SDPA
    assert not reason and packed.model.config._attn_implementation == wanted
    assert packed.form.score(packed, writer, items) == pytest.approx(expected, abs=1e-5)
    # Rows of more blocks than one.
    monkeypatch.setattr("kaggle_rag.models.packed_attention._BLOCK", 3)
    assert packed.form.score(packed, writer, items) == pytest.approx(expected, abs=1e-5)
    # The same model asked without packing: rows padded on the left, with a mask of their own.
    assert plain.form.score(plain, writer, items) == pytest.approx(expected, abs=1e-5)


def test_the_causal_part_is_what_all_rows_begin_with():
    rows = [[*range(5, 11), *range(20 + n, 23 + n)] for n in range(3)]
    long, short = packing.packed(rows), packing.packed(rows[:2])
    batch = packing.tensors([long], [(0, 0)], len(long) + 2, 0)
    # The first branch goes on from the prefix as a row of its own would.
    assert causal_start(batch) == 9 and causal_start(batch, window=5) == 5
    seen = visible(batch)[0, 0, :9]
    assert torch.equal(seen[:, :9], torch.ones(9, 9).tril().bool()) and not seen[:, 9:].any()
    both = packing.tensors([long, short, short], [(0, 0), (1, 0), (1, len(short))], 2 * len(short), 0)
    assert causal_start(both) == 9
    behind = packing.tensors([packing.packed([[7, 8, 9]]), short], [(0, 0), (0, 3)], len(short) + 3, 0)
    assert causal_start(behind) == 3


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"choice": "auto", "card": (8, 0)}, ["packed_sdpa", "sdpa"]),
        ({"card": (8, 0)}, ["flex_attention", "packed_sdpa", "sdpa"]),
        ({"card": (8, 0), "current": "eager"}, ["flex_attention", "eager"]),
        # A T4.
        ({"card": (7, 5)}, ["packed_sdpa", "sdpa"]),
        ({"card": (7, 5), "current": "eager"}, ["eager"]),
        ({"card": (8, 9), "flex": False}, ["packed_sdpa", "sdpa"]),
        ({"card": (8, 9), "version": "2.8.1+cu126"}, ["packed_sdpa", "sdpa"]),
        ({"card": (8, 0), "current": "flash_attention_2"}, ["flash_attention_2"]),
    ],
)
def test_flex_attention_where_card_torch_and_model_have_it(given, expected):
    usual = {"current": "sdpa", "choice": "flex", "flex": True, "version": "2.13.0+cu130"}
    assert implementations(**{**usual, **given}) == expected


def test_an_attention_that_fails_gives_way_to_the_next(llama, monkeypatch, capsys):
    plain, writer = loaded(llama, "options")
    items = questions(4, 0)
    expected = plain.form.score(plain, writer, items)
    # As on a card without a compiler: torch's own error, from where it would be raised.
    monkeypatch.setattr(
        "transformers.integrations.flex_attention.compile_friendly_flex_attention",
        lambda *args, **options: (_ for _ in ()).throw(RuntimeError("no compiler")),
    )
    packed, reason = with_packing(plain, "flex")
    assert not reason and packed.model.config._attn_implementation == PACKED_SDPA
    said = capsys.readouterr().err
    assert "no FlexAttention for this model: it takes no packed rows (no compiler)" in said
    assert packed.form.score(packed, writer, items) == pytest.approx(expected, abs=1e-5)
    assert fitted(plain.model, [FLEX])[0].endswith("(no compiler)")
    assert plain.model.config._attn_implementation == PACKED_SDPA


def test_scores_differ_between_questions(llama):
    """What the others compare is not a constant."""
    plain, writer = loaded(llama, "options")
    assert len(np.unique(plain.form.score(plain, writer, questions(12, 0)).round(6))) > 12
