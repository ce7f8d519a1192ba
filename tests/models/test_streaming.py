"""A model read layer by layer gives the scores of the model in memory, and reads every weight once."""

import collections
import itertools
import json
import threading

import numpy as np
import pytest
import torch
from ranker_toys import BACKBONES, DECODERS, backbone, tokenizer
from safetensors.torch import load_file, save_file
from test_packing import WINDOW, questions
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    Gemma2Config,
    GPT2Config,
    OPTConfig,
    Qwen3Config,
)

from kaggle_rag.models.answering.packed import PackedBinaryPrompt, PackedLetters, PackedOptions
from kaggle_rag.models.checkpoints import INDEX
from kaggle_rag.models.layouts import Writer
from kaggle_rag.models.loading import load_backbone, with_packing
from kaggle_rag.models.streaming import layers as streaming
from kaggle_rag.models.streaming import shards
from kaggle_rag.models.streaming.model import StreamedModel
from kaggle_rag.models.streaming.room import Room
from kaggle_rag.models.streaming.skeleton import Skeleton
from kaggle_rag.runtime.errors import CheckpointError, ConfigError, LimitError

FORMS = {"options": PackedOptions, "binary": PackedBinaryPrompt, "letters": PackedLetters}
TOKENS = 256
_SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
          "num_key_value_heads": 2, "max_position_embeddings": 64, "head_dim": 16, "pad_token_id": 0,
          "eos_token_id": 1, "bos_token_id": 3}  # fmt: skip


def sliding(vocabulary):
    config = BACKBONES["mistral"](vocabulary)
    config.sliding_window = WINDOW
    return config


# Caps that bend the logits of a tiny model, and scales that are not 1.
MORE = {
    "mistral, sliding": sliding,
    "gemma2": lambda v: Gemma2Config(
        **_SMALL, vocab_size=v, sliding_window=WINDOW, final_logit_softcapping=0.2,
        attn_logit_softcapping=0.5, query_pre_attn_scalar=16,
    ),
    "qwen3": lambda v: Qwen3Config(**_SMALL, vocab_size=v),
}  # fmt: skip


def checkpoint(kind, folder, seed=0, layers=None):
    """A tiny untrained decoder in several shards, with the head of the form ``binary`` too."""
    family = kind.partition(",")[0]
    words = tokenizer(family if family in DECODERS else "llama")
    config = (MORE.get(kind) or BACKBONES[kind])(len(words))
    config.num_hidden_layers = layers or config.num_hidden_layers
    if getattr(config, "layer_types", None):
        config.layer_types = (config.layer_types * config.num_hidden_layers)[: config.num_hidden_layers]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    for name, weight in model.named_parameters():
        # Untrained, every family's norms are ones or zeros, and its biases zeros: the same as none.
        if "norm" in name or "bias" in name:
            weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder, max_shard_size="20KB")
    index = json.loads((folder / INDEX).read_text())
    save_file({"score.weight": torch.randn(1, 64)}, folder / "score.safetensors", {"format": "pt"})
    index["weight_map"]["score.weight"] = "score.safetensors"
    (folder / INDEX).write_text(json.dumps(index))
    words.save_pretrained(folder)
    return folder


def resident(folder, form, **options):
    """The same checkpoint in memory, over packed rows."""
    loaded = load_backbone(str(folder), form, device="cpu", **options)
    loaded.model.eval()
    packed, reason = with_packing(loaded)
    assert not reason
    return packed, Writer(packed.tokenizer, packed.form.layout, 48)


# Two stand for the others, which CI tries too: a plain one, and one with all that a family may have.
FAMILIES = [
    kind if kind in ("llama", "gemma2") else pytest.param(kind, marks=pytest.mark.slow)
    for kind in (*DECODERS, *MORE)
]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return checkpoint(request.param, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Five layers: enough to stop between two."""
    return checkpoint("llama", tmp_path_factory.mktemp("deep"), layers=5)


@pytest.fixture
def reads(monkeypatch):
    """How often each tensor is read."""
    counts = collections.Counter()

    class Counted:
        def __init__(self, *args, **options):
            self._file = real(*args, **options)

        def __enter__(self):
            self._open = self._file.__enter__()
            return self

        def __exit__(self, *given):
            return self._file.__exit__(*given)

        def get_tensor(self, name):
            counts[name] += 1
            return self._open.get_tensor(name)

    real = shards.safe_open
    monkeypatch.setattr(shards, "safe_open", Counted)
    return counts


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rotations", [1, 3])
def test_streamed_scores_are_those_of_the_model_in_memory(folder, form, rotations):
    assert len(list(folder.glob("model-*.safetensors"))) > 3
    packed, writer = resident(folder, form)
    items = questions(24, 0)
    expected = packed.form.score(packed, writer, items, TOKENS, rotations=rotations)
    with StreamedModel(folder, FORMS[form]()) as model:
        scored = model.score(writer, items, TOKENS, rotations=rotations)
    assert scored == pytest.approx(expected, abs=1e-5)
    assert len(np.unique(expected.round(6))) > 24


def test_half_precision_is_that_of_the_model_in_memory(folder):
    packed, writer = resident(folder, "options", precision="bf16")
    items = questions(12, 0)
    expected = packed.form.score(packed, writer, items, TOKENS)
    with StreamedModel(folder, PackedOptions(), precision="bf16") as model:
        assert model.score(writer, items, TOKENS) == pytest.approx(expected, abs=1e-5)


def test_every_weight_is_read_once_however_many_questions(folder, reads):
    _, writer = resident(folder, "options")
    with StreamedModel(folder, PackedOptions()) as model:
        model.score(writer, questions(24, 0), 64)
        tied = model._skeleton.tied.values()
        wanted = {name: 1 + (name in tied) for part in model._skeleton.parts for name in part}
        for head in model._skeleton.tied:
            del wanted[head]
        assert reads == wanted
        assert model.bytes_read == sum(
            count * np.prod(model._shapes[name]) * 4 for name, count in wanted.items()
        )


def test_what_is_resident_is_not_read_again(deep, reads):
    _, writer = resident(deep, "options")
    items = questions(12, 0)
    with StreamedModel(deep, PackedOptions()) as model:
        sizes = model._sizes()
    # Room for the embedding and three layers, and not for a fourth.
    room = Room(resident=sum(sizes[:4]) + sizes[4] - 1)
    with StreamedModel(deep, PackedOptions(), room=room) as model:
        first = model.score(writer, items, TOKENS)
        reads.clear()
        second = model.score(writer, items, TOKENS)
        # The head fits where a whole layer does not.
        again = {name for part in model._skeleton.parts[4:6] for name in part}
        assert set(reads) - set(model._skeleton.parts[6]) == again
    assert np.array_equal(first, second)
    reads.clear()
    with model:
        assert np.array_equal(model.score(writer, items, TOKENS), first)
    assert set(reads) == {name for part in model._skeleton.parts for name in part}


def test_the_next_part_is_read_while_one_computes(deep, monkeypatch):
    _, writer = resident(deep, "options")
    through, read = Skeleton.through, shards.Parts._read
    begun, changed = [], threading.Condition()

    def reading(self, part):
        with changed:
            begun.append(part)
            changed.notify()
        return read(self, part)

    def computing(self, layer, hidden, batch):
        # Were a part read only when it is needed, the one behind this layer's would not be begun yet.
        with changed:
            assert changed.wait_for(lambda: layer + 2 in begun, 10)
            assert max(begun) == layer + 2
        return through(self, layer, hidden, batch)

    monkeypatch.setattr(shards.Parts, "_read", reading)
    monkeypatch.setattr(Skeleton, "through", computing)
    with StreamedModel(deep, PackedOptions()) as model:
        model.score(writer, questions(2, 0), 4096)
    assert begun == [0, 1, 2, 3, 4, 5, 6]


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


def adapter(folder, form, out, **options):
    """A LoRA adapter whose matrices are not zero, and the scores of the base and of PEFT's model with it."""
    from peft import LoraConfig, get_peft_model

    packed, writer = resident(folder, form)
    items = questions(12, 0)
    plain = packed.form.score(packed, writer, items, TOKENS)
    kind = "SEQ_CLS" if form == "binary" else "CAUSAL_LM"
    torch.manual_seed(5)
    model = get_peft_model(packed.model, LoraConfig(task_type=kind, **options))
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = 0.1 * torch.randn_like(weight)
    model.save_pretrained(out)
    changed = packed.form.score(packed._replace(model=model.eval()), writer, items, TOKENS)
    return writer, items, plain, changed


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("options", {"r": 4, "lora_alpha": 16, "target_modules": "all-linear"}),
        ("binary", {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "down_proj"]}),
        ("letters", {"r": 8, "lora_alpha": 3, "use_rslora": True, "target_modules": ["v_proj"]}),
        ("options", {"r": 4, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"1.self_attn.q_proj": 40},
                     "target_modules": ["q_proj", "lm_head"]}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_an_adapter_is_that_of_peft(kind, form, options, tmp_path):
    folder = checkpoint(kind, tmp_path / "base")
    writer, items, plain, expected = adapter(folder, form, tmp_path / "adapter", **options)
    with StreamedModel(folder, FORMS[form](), adapter=tmp_path / "adapter") as model:
        scored = model.score(writer, items, TOKENS)
    assert scored == pytest.approx(expected, abs=1e-5)
    assert np.abs(plain - expected).max() > 1e-3


def test_a_head_that_the_adapter_brings_is_not_asked_of_the_base(tmp_path):
    folder = backbone("llama", tmp_path / "base")
    options = {"r": 2, "target_modules": ["q_proj"]}
    with pytest.raises(CheckpointError, match=r"no tensor score\.weight"):
        StreamedModel(folder, PackedBinaryPrompt())
    writer, items, _, expected = adapter(folder, "binary", tmp_path / "adapter", **options)
    with StreamedModel(folder, PackedBinaryPrompt(), adapter=tmp_path / "adapter") as model:
        assert model.score(writer, items, TOKENS) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: pissa"),
        ({"target_modules": ["embed_tokens"]}, "embed_tokens.lora_embedding"),
    ],
)
def test_other_adapters_are_refused(deep, tmp_path, options, message):
    adapter(deep, "options", tmp_path, **{"r": 2, "target_modules": ["q_proj"], **options})
    with pytest.raises(ConfigError, match=message):
        StreamedModel(deep, PackedOptions(), adapter=tmp_path)


def test_an_adapter_of_another_method_or_none_is_refused(deep, tmp_path):
    with pytest.raises(ConfigError, match="no adapter of PEFT"):
        StreamedModel(deep, PackedOptions(), adapter=tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(ConfigError, match="method IA3"):
        StreamedModel(deep, PackedOptions(), adapter=tmp_path)


def test_an_adapter_for_another_base_is_refused(deep, tmp_path):
    adapter(checkpoint("gemma2", tmp_path / "base"), "options", tmp_path / "out", r=2,
            target_modules=["o_proj", "gate_proj"])  # fmt: skip
    # The same shapes fit: what tells is a module that is not there, or a shape that differs.
    saved = load_file(tmp_path / "out" / "adapter_model.safetensors")
    longer = {name: torch.cat([t, t], -1) if "lora_A" in name else t for name, t in saved.items()}
    elsewhere = {name.replace("layers.1.", "layers.7."): tensor for name, tensor in saved.items()}
    for tensors, message in ((longer, "expected: "), (elsewhere, "a weight that the base has")):
        save_file(tensors, tmp_path / "out" / "adapter_model.safetensors")
        with pytest.raises(CheckpointError, match="for another base") as raised:
            StreamedModel(deep, PackedOptions(), adapter=tmp_path / "out")
        assert message in str(raised.value)


def test_a_missing_shard_is_named(tmp_path):
    folder = checkpoint("llama", tmp_path)
    lost = sorted(folder.glob("model-*.safetensors"))[2]
    lost.unlink()
    with pytest.raises(CheckpointError, match="a file of the checkpoint is missing") as raised:
        StreamedModel(folder, PackedOptions())
    assert lost.name in str(raised.value)


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_truncated_shard_is_named(tmp_path, when, monkeypatch):
    folder = checkpoint("llama", tmp_path)
    _, writer = resident(folder, "options")
    cut = sorted(folder.glob("model-*.safetensors"))[-1]
    model = StreamedModel(folder, PackedOptions()) if when == "during" else None
    with cut.open("rb+") as file:
        file.truncate(cut.stat().st_size - 8)
    with pytest.raises(CheckpointError) as raised:
        (model or StreamedModel(folder, PackedOptions())).score(writer, questions(2, 0))
    assert cut.name in str(raised.value)


def rewritten(folder, change):
    """The shards with other tensors."""
    for path in folder.glob("model-*.safetensors"):
        save_file(change(load_file(path)), path, {"format": "pt"})


def test_a_tensor_that_is_missing_or_of_another_shape_is_named(tmp_path):
    folder = checkpoint("llama", tmp_path)
    name = "model.layers.1.self_attn.k_proj.weight"
    rewritten(folder, lambda saved: {k: v[:-1].clone() if k == name else v for k, v in saved.items()})
    with pytest.raises(CheckpointError, match=rf"{name} has the shape \(31, 64\)"):
        StreamedModel(folder, PackedOptions())
    rewritten(folder, lambda saved: {k: v for k, v in saved.items() if k != name})
    with pytest.raises(CheckpointError, match=f"no tensor {name}"):
        StreamedModel(folder, PackedOptions())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (OPTConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, ffn_dim=64,
                   word_embed_proj_dim=32), "one list of 2 layers"),
        (GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=2), "transformer.wpe.weight"),
    ],
)  # fmt: skip
def test_a_family_that_is_not_read_by_layers_says_so(tmp_path, config, message):
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read layer by layer") as raised:
        StreamedModel(tmp_path, PackedOptions())
    assert message in str(raised.value)


def test_a_checkpoint_of_the_backbone_alone_lacks_the_prefix(tmp_path):
    folder = checkpoint("llama", tmp_path)
    packed, writer = resident(folder, "binary")
    items = questions(6, 0)
    expected = packed.form.score(packed, writer, items, TOKENS)
    rewritten(folder, lambda saved: {name.removeprefix("model."): t for name, t in saved.items()})
    with StreamedModel(folder, PackedBinaryPrompt()) as model:
        assert model.score(writer, items, TOKENS) == pytest.approx(expected, abs=1e-5)


def test_two_labels_are_those_of_the_model_in_memory(tmp_path):
    folder = tmp_path / "two"
    words = tokenizer("llama")
    config = BACKBONES["llama"](len(words))
    config.num_labels = 2
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    packed, writer = resident(folder, "binary", labels=2)
    items = questions(6, 0)
    expected = packed.form.score(packed, writer, items, TOKENS)
    with StreamedModel(folder, PackedBinaryPrompt(), labels=2) as model:
        assert model.score(writer, items, TOKENS) == pytest.approx(expected, abs=1e-5)


def test_weights_in_four_bits_are_those_of_bitsandbytes(tmp_path):
    pytest.importorskip("bitsandbytes")
    whole = checkpoint("llama", tmp_path / "whole")
    packed, writer = resident(whole, "options", nf4=True)
    packed.model.save_pretrained(tmp_path / "nf4", max_shard_size="20KB")
    items = questions(12, 0)
    expected = packed.form.score(packed, writer, items, TOKENS)
    with StreamedModel(tmp_path / "nf4", PackedOptions()) as model:
        scored = model.score(writer, items, TOKENS)
    assert scored == pytest.approx(expected, abs=1e-4)
    with StreamedModel(whole, PackedOptions()) as model:
        assert np.abs(model.score(writer, items, TOKENS) - expected).max() > 1e-3


def test_other_quantized_weights_are_refused(deep, tmp_path):
    config = json.loads((deep / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="quantized by gptq"):
        StreamedModel(tmp_path, PackedOptions())


def test_need_counts_two_parts_and_hidden_states(deep, tmp_path):
    with StreamedModel(deep, PackedOptions()) as model:
        sizes = model._sizes()
        assert sum(sizes) == sum(np.prod(shape) for shape in model._shapes.values()) * 4
        few, many = model.need(1000, 48, 96), model.need(3000, 48, 96)
        assert many.ram - few.ram == 2000 * 64 * 4
        assert few.weights == max(a + b for a, b in itertools.pairwise(sizes))
    with StreamedModel(deep, PackedOptions(), room=Room(ram=0, folder=tmp_path)) as model:
        assert model.need(3000, 48, 96).ram == few.ram - 1000 * 64 * 4
    with StreamedModel(deep, PackedOptions(), room=Room(resident=10**9)) as model:
        assert model.need(1000, 48, 96).ram - few.ram == sum(sizes)
