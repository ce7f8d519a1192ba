"""Weights in 4 and 8 bits, read so or made so as they arrive, give the scores of such a model in memory."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from streaming_toys import TOKENS, checkpoint, resident
from test_packing import questions
from transformers import AutoModelForCausalLM

from kaggle_rag.models.answering.packed import PackedOptions
from kaggle_rag.models.streaming.model import StreamedModel
from kaggle_rag.models.streaming.room import Room
from kaggle_rag.runtime.errors import ConfigError


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


def test_weights_quantized_as_they_arrive_are_those_of_the_model_in_memory(tmp_path, reads):
    pytest.importorskip("bitsandbytes")
    folder = checkpoint("llama", tmp_path / "whole")
    packed, writer = resident(folder, "options", nf4=True)
    items = questions(12, 0)
    expected = packed.form.score(packed, writer, items, TOKENS)
    with StreamedModel(folder, PackedOptions()) as model:
        whole = model.score(writer, items, TOKENS)
        size = sum(model._sizes())
    assert np.abs(whole - expected).max() > 1e-3
    with StreamedModel(folder, PackedOptions(), nf4=True) as model:
        assert model.score(writer, items, TOKENS) == pytest.approx(expected, abs=1e-4)
    # In 4 bits they stay in memory where a third of the whole weights has room.
    with StreamedModel(folder, PackedOptions(), nf4=True, room=Room(resident=size // 3)) as model:
        first = model.score(writer, items, TOKENS)
        reads.clear()
        assert np.array_equal(model.score(writer, items, TOKENS), first) and not reads


def test_an_adapter_over_4_bits_is_that_of_peft(tmp_path):
    pytest.importorskip("bitsandbytes")
    from peft import LoraConfig, get_peft_model

    folder = checkpoint("llama", tmp_path / "base")
    packed, writer = resident(folder, "options", nf4=True)
    items = questions(12, 0)
    torch.manual_seed(5)
    tuned = get_peft_model(packed.model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"))
    for name, weight in tuned.named_parameters():
        if "lora_" in name:
            weight.data = 0.1 * torch.randn_like(weight)
    tuned.save_pretrained(tmp_path / "adapter")
    expected = packed.form.score(packed._replace(model=tuned.eval()), writer, items, TOKENS)
    with StreamedModel(folder, PackedOptions(), nf4=True, adapter=tmp_path / "adapter") as model:
        assert model.score(writer, items, TOKENS) == pytest.approx(expected, abs=1e-4)


def test_weights_in_eight_bits_are_a_row_of_numbers_and_its_scale(tmp_path):
    """The model in memory rounds its activations too, so it is filled with the rows worked by hand."""
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    whole = checkpoint("llama", tmp_path / "whole")
    given = BitsAndBytesConfig(load_in_8bit=True)
    small = AutoModelForCausalLM.from_pretrained(whole, quantization_config=given, device_map={"": "cpu"})
    small.save_pretrained(tmp_path / "int8", max_shard_size="20KB")
    packed, writer = resident(whole, "options")
    saved = {}
    for path in (tmp_path / "int8").glob("*.safetensors"):
        saved |= load_file(path)
    scaled = [name for name in saved if name.endswith(".SCB")]
    assert len(scaled) == 2 * 7
    for name in scaled:
        module = name.removesuffix(".SCB")
        rows = saved[f"{module}.weight"].float() * saved[name][:, None] / 127
        packed.model.get_submodule(module).weight.data = rows
    items = questions(12, 0)
    expected = packed.form.score(packed, writer, items, TOKENS)
    with StreamedModel(tmp_path / "int8", PackedOptions()) as model:
        assert model.score(writer, items, TOKENS) == pytest.approx(expected, abs=1e-5)
        # Numbers and scales are read, and nothing else of these layers.
        layer = model._skeleton.parts[1]
        read = sum(model._shards.read(name)[""].nbytes for name in layer if "norm" not in name)
        assert read == sum(np.prod(model._shapes[name]) for name in layer if "norm" not in name)
    with StreamedModel(whole, PackedOptions()) as model:
        assert np.abs(model.score(writer, items, TOKENS) - expected).max() > 1e-4


def test_other_quantized_weights_are_refused(deep, tmp_path):
    config = json.loads((deep / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="quantized by gptq"):
        StreamedModel(tmp_path, PackedOptions())
