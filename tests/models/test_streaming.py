"""A model read layer by layer gives the scores of the model in memory, and reads every weight once."""

import collections
import itertools
import threading

import numpy as np
import pytest
import torch
from ranker_toys import BACKBONES, backbone, tokenizer
from safetensors.torch import load_file, save_file
from streaming_toys import FORMS, TOKENS, checkpoint, resident
from test_packing import questions
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GPT2Config, OPTConfig

from kaggle_rag.models.answering.packed import PackedBinaryPrompt, PackedOptions
from kaggle_rag.models.memory import weights_of
from kaggle_rag.models.streaming import shards
from kaggle_rag.models.streaming.model import StreamedModel
from kaggle_rag.models.streaming.room import Room
from kaggle_rag.models.streaming.skeleton import Skeleton
from kaggle_rag.runtime.errors import CheckpointError, ConfigError


@pytest.mark.parametrize("form", FORMS)
def test_streamed_scores_are_those_of_the_model_in_memory(folder, form):
    assert len(list(folder.glob("model-*.safetensors"))) > 3
    packed, writer = resident(folder, form)
    items = questions(24, 0)
    expected = packed.form.score(packed, writer, items, TOKENS, rotations=3)
    with StreamedModel(folder, FORMS[form]()) as model:
        scored = model.score(writer, items, TOKENS, rotations=3)
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


def test_two_devices_share_the_questions_and_what_is_read(deep, reads, monkeypatch):
    """The same code for two CPUs as for two GPUs; in every layer each waits for the other's first batch."""
    _, writer = resident(deep, "options")
    items = questions(24, 0)
    with StreamedModel(deep, PackedOptions()) as model:
        expected = model.score(writer, items, 64)
        once = dict(reads)
    reads.clear()
    through, meeting, shared = Skeleton.through, threading.Barrier(2, timeout=20), collections.Counter()

    def computing(self, layer, hidden, batch):
        shared[id(self), layer] += 1
        if shared[id(self), layer] == 1:
            meeting.wait()
        return through(self, layer, hidden, batch)

    monkeypatch.setattr(Skeleton, "through", computing)
    with StreamedModel(deep, PackedOptions(), more=["cpu"]) as model:
        scored = model.score(writer, items, 64)
    assert scored == pytest.approx(expected, abs=1e-6) and dict(reads) == once
    assert len(shared) == 2 * 5 and len({skeleton for skeleton, _ in shared}) == 2


def test_what_fails_on_one_device_fails_the_pass(deep, monkeypatch):
    _, writer = resident(deep, "options")
    through, meeting, seen = Skeleton.through, threading.Barrier(2, timeout=20), set()

    def failing(self, layer, hidden, batch):
        if layer == 2 and id(self) not in seen:
            seen.add(id(self))
            meeting.wait()
            if self is second:
                raise torch.AcceleratorError("CUDA error: unspecified launch failure")
        return through(self, layer, hidden, batch)

    with StreamedModel(deep, PackedOptions(), more=["cpu"]) as model:
        second = model._skeletons[1]
        monkeypatch.setattr(Skeleton, "through", failing)
        with pytest.raises(torch.AcceleratorError, match="unspecified launch failure"):
            model.score(writer, questions(48, 0), 64)


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


def test_files_that_are_not_loaded_are_not_counted(tmp_path):
    """Whole repositories of Mistral have their weights once more, in one file."""
    folder = checkpoint("llama", tmp_path)
    before = weights_of(folder, "fp16")
    save_file(load_file(sorted(folder.glob("model-*.safetensors"))[0]), folder / "consolidated.safetensors")
    assert before > 0 and weights_of(folder, "fp16") == before


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
