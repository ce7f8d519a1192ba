"""Checkpoints trained elsewhere: layouts, 4 bits, memory, and files that do not fit together."""

import importlib.util
import json
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from hub_toys import hub_folder
from hypothesis import given
from hypothesis import strategies as st
from ranker_toys import WORDS, backbone, task
from sentencepiece import SentencePieceProcessor
from transformers import AutoModelForMultipleChoice, AutoTokenizer, BertConfig, BertForMultipleChoice

from inference.predict import make_rankers, predict
from kaggle_rag.config import load
from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.models.description import described
from kaggle_rag.models.layouts import PRESETS, Layout, layout_of
from kaggle_rag.models.loading import load_backbone
from kaggle_rag.models.writer import Writer, special_ids
from kaggle_rag.rankers.checks import check_ranker
from kaggle_rag.rankers.registry import make_ranker
from kaggle_rag.rankers.resources import Resources
from kaggle_rag.runtime.errors import CheckpointError, ConfigError, LimitError
from kaggle_rag.runtime.faults import Faults

CONTEXT = "the amber birch and the cedar . " * 12
OPTIONS = ("delta ember", "frost", "grove heron the right")


@pytest.fixture(scope="module")
def deberta(tmp_path_factory):
    """A multiple-choice checkpoint without ranker.json, as a notebook saves it."""
    folder = hub_folder("deberta", tmp_path_factory.mktemp("foreign") / "hub", safe=True)
    out = folder.with_name("deberta-mcq")
    torch.manual_seed(3)
    AutoModelForMultipleChoice.from_pretrained(folder).save_pretrained(out)
    AutoTokenizer.from_pretrained(folder).save_pretrained(out)
    shutil.copyfile(folder / "spm.model", out / "spm.model")
    return out


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return task(tmp_path_factory.mktemp("task"), count=8, judged=8)


def _notebook(name, tokenizer, context, prompt, option, longest):
    """The lines of the notebooks themselves."""
    if name == "openbook":
        return tokenizer(
            "[CLS] " + context, " #### " + prompt + " [SEP] " + option + " [SEP]", truncation="only_first",
            max_length=longest, add_special_tokens=False,
        )  # fmt: skip
    first = {
        "context-prompt": context[:1750] + " #### " + prompt,
        "prompt-option": prompt,
        "race": context + " <s> " + prompt,
    }[name]
    return tokenizer(first, option, truncation=True, max_length=longest)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("longest", [48, 64, 2000])
def test_rows_are_those_of_the_notebook(name, longest, deberta):
    tokenizer, theirs = (AutoTokenizer.from_pretrained(deberta) for _ in range(2))
    writer = Writer(tokenizer, PRESETS[name], longest)
    for place, option in enumerate(OPTIONS):
        expected = _notebook(name, theirs, CONTEXT * 3, "Is the right answer A ?", option, longest)
        found = writer(CONTEXT * 3, "Is the right answer A ?", OPTIONS, place)
        assert found.ids["input_ids"] == expected["input_ids"]
        assert found.ids["token_type_ids"] == expected["token_type_ids"]
    assert not writer.shortened


def test_a_template_says_all_of_that_by_its_keys(deberta):
    tokenizer = AutoTokenizer.from_pretrained(deberta)
    said = layout_of(Layout("{prompt}"), {
        "first": "[CLS] {context}", "second": " #### {prompt} [SEP] {option} [SEP]",
        "add_special_tokens": False, "cut": "first",
    })  # fmt: skip
    assert said == PRESETS["openbook"]
    texts = {"first": "{context} {prompt}", "second": "{option}"}
    own = layout_of(Layout("{prompt}"), {**texts, "cut": "second"})
    found = Writer(tokenizer, own, 40)("amber", "birch", ("cedar " * 60,), 0)
    assert found.ids["input_ids"] == tokenizer(
        "amber birch", "cedar " * 60, truncation="only_second", max_length=40
    )["input_ids"]  # fmt: skip


@pytest.mark.parametrize("template, message", [
    ("openbok", "no layout 'openbok'"),
    ({"third": "x"}, "no key 'third'"),
    ({"first": "{prompt}", "cut": "all"}, "no cut 'all'"),
    ({"first": "{prompt}", "cut": "second"}, "no second segment"),
    ({"first": 3}, "not a text"),
    ({"first": "{prompt}", "add_special_tokens": "no"}, "not a yes or no"),
    ({"first": "{prompt}", "context_chars": -1}, "not a number of characters"),
    (["openbook"], "not a layout"),
])  # fmt: skip
def test_a_template_that_means_nothing(template, message):
    with pytest.raises(ConfigError, match=message):
        layout_of(Layout("{prompt}"), template)


def test_a_question_too_long_for_a_foreign_layout_is_cut_and_told(deberta):
    writer = Writer(AutoTokenizer.from_pretrained(deberta), PRESETS["openbook"], 40)
    found = writer(CONTEXT, "the right answer " * 40, OPTIONS, 0)
    assert len(found.is_answer) <= 40 and writer.shortened == 1


def _asked(folder, told, **options):
    questions = Questions.read(told["validation"])
    contexts = read_contexts(told["validation_contexts"], questions)
    bare = {"form": "choice", "max_tokens": 48}
    with make_ranker("trained", {"folder": str(folder), "device": "cpu", **bare, **options}) as ranker:
        table = ranker.probabilities(questions, contexts)
        model = ranker._backbone.model
    return table, [*map(str, ranker.notes)], model


def test_a_bare_checkpoint_says_by_which_layout_it_was_read(deberta, told):
    own, notes, _ = _asked(deberta, told)
    assert any("does not say which layout" in note and "openbook" in note for note in notes)
    named, notes, _ = _asked(deberta, told, template="own")
    assert not notes and (named == own).all()
    other, notes, _ = _asked(deberta, told, template="openbook")
    assert not notes and (other != own).any()


SPELT = ["[SEP]", "[CLS]", "[PAD]", "[MASK]", "</s>", "<s>", "<pad>", "<unk>", "<extra_id_7>"]
# Normalisation makes the same of these.
SPELT += ["［SEP］", "[S\x00EP]"]


@pytest.fixture(scope="module")
def tokenizers(deberta, tmp_path_factory):
    folder = tmp_path_factory.mktemp("more")
    for kind in ("t5", "llama"):
        hub_folder(kind, folder / kind, safe=True)
    backbone("roberta", folder / "roberta")
    backbone("qwen2", folder / "qwen2")
    folders = [deberta, *(folder / kind for kind in ("t5", "llama", "roberta", "qwen2"))]
    return [described(each)[1] for each in folders]


@given(parts=st.lists(st.sampled_from([*SPELT, *WORDS, " ", "\n", "[", "]", "<"]), max_size=6))
def test_what_a_question_spells_out_is_text(parts, tokenizers):
    """Beside the layout's own special tokens a row has none, whatever the question holds."""
    text = "the " + "".join(parts) + " right"
    for tokenizer in tokenizers:
        for layout in (Layout("{context}", "{prompt} {option}"), Layout("{context} {prompt}\n{options}")):
            writer = Writer(tokenizer, layout, 400)
            special = special_ids(tokenizer)
            plain = writer("amber", "birch", ("cedar", "delta"), 0).ids["input_ids"]
            found = writer(text, text, (text, text), 0).ids["input_ids"]
            assert [i for i in found if i in special] == [i for i in plain if i in special]


def test_the_reference_of_the_slow_tokenizer_has_no_control_piece_either(deberta):
    """Sentencepiece itself never reads a control piece from text; what is written reads alike by both."""
    tokenizer = AutoTokenizer.from_pretrained(deberta)
    slow = SentencePieceProcessor(model_file=str(deberta / "spm.model"))
    text = Writer(tokenizer, PRESETS["openbook"], 99)._text("the [SEP] right[PAD]")
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == slow.encode(text)
    assert not {0, 1, 2} & set(slow.encode(text)) and {2, 0} <= set(
        tokenizer("the [SEP] right[PAD]", add_special_tokens=False)["input_ids"]
    )


def test_the_layouts_own_special_tokens_stay(deberta):
    tokenizer = AutoTokenizer.from_pretrained(deberta)
    found = Writer(tokenizer, PRESETS["openbook"], 99)("amber [SEP]", "birch [CLS]", ("[SEP] cedar",), 0)
    marks = [token for token in found.ids["input_ids"] if token in special_ids(tokenizer)]
    assert marks == [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.sep_token_id]


def _quantised(model):
    from bitsandbytes.nn import Linear4bit

    return sorted(
        name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, Linear4bit)
    )


def test_a_bare_checkpoint_in_4_bits(deberta, told):
    pytest.importorskip("bitsandbytes")
    whole, _, plain = _asked(deberta, told, template="own")
    small, _, model = _asked(deberta, told, template="own", load_in_4bit=True)
    assert not _quantised(plain)
    # Two layers of query, key, value and three dense matrices; heads and embeddings stay as they are.
    assert _quantised(model) == sorted(2 * (["query_proj", "key_proj", "value_proj"] + 3 * ["dense"]))
    assert type(model.classifier) is torch.nn.Linear
    assert 0 < abs(small - whole).max() < 0.1


@pytest.mark.parametrize("method", ["full", "lora", "adapters"])
def test_a_trained_ranker_in_4_bits(method, told, tmp_path):
    pytest.importorskip("bitsandbytes")
    from training.rankers.merge import merge
    from training.rankers.settings import CausalRun
    from training.rankers.train import train_ranker

    model = backbone("llama", tmp_path / "llama")
    settings = CausalRun(**told, model=str(model), out=tmp_path / "out", epochs=1, peft={"method": method})
    train_ranker("causal", settings)
    folders = [tmp_path / "out"]
    if method == "lora":
        merge(tmp_path / "out", tmp_path / "merged", device="cpu")
        folders.append(tmp_path / "merged")
    for folder in folders:
        bare = {"form": None, "max_tokens": None}
        whole, _, plain = _asked(folder, told, **bare)
        small, _, model = _asked(folder, told, load_in_4bit=True, **bare)
        assert not _quantised(plain)
        found = _quantised(model)
        assert len(found) == 2 * 7 and (method == "adapters" or 0 < abs(small - whole).max() < 0.2)


def test_4_bits_without_their_package_or_without_sense(deberta, monkeypatch):
    told = {"folder": str(deberta), "form": "choice", "max_tokens": 48}
    with pytest.raises(ConfigError, match="not a yes or no"):
        make_ranker("trained", {**told, "load_in_4bit": "nf4"})
    find = sys.modules["importlib.util"].find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "bitsandbytes" else find(name, *more)
    )
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        make_ranker("trained", {**told, "load_in_4bit": True})


_PEAK = """
import sys
from kaggle_rag.runtime.limits import measured
from kaggle_rag.data.questions import Questions
from kaggle_rag.rankers.registry import make_ranker
prompt = "the right answer is " * 60
rows = [{"id": n, "prompt": prompt, **dict.fromkeys("ABCDE", "amber birch")} for n in range(2)]
questions = Questions.from_rows(rows, "made")
options = {"folder": sys.argv[1], "form": "choice", "max_tokens": 256, "device": "cpu", "template": "own"}
made = make_ranker("trained", {**options, "load_in_4bit": sys.argv[2] == "4"})
with measured("rank") as usage, made as ranker:
    ranker.probabilities(questions, None)
print(made.need().ram, usage.ram_peak)
"""


@pytest.fixture(scope="module")
def middling(tmp_path_factory):
    """A checkpoint of 60 million weights, made and not trained."""
    folder = backbone("bert", tmp_path_factory.mktemp("middling") / "bert")
    config = BertConfig(
        hidden_size=1024, num_hidden_layers=4, num_attention_heads=16, intermediate_size=4096,
        vocab_size=8000, max_position_embeddings=512,
    )  # fmt: skip
    with torch.device("meta"):
        model = BertForMultipleChoice(config)
    model.to_empty(device="cpu").apply(_small).save_pretrained(folder)
    return folder


def _small(module):
    for weight in module.parameters(recurse=False):
        torch.nn.init.constant_(weight, 0.01)


@pytest.mark.parametrize("bits", ["32", pytest.param("4", marks=pytest.mark.slow)])
def test_the_estimate_is_near_what_is_used(bits, middling):
    if bits == "4":
        pytest.importorskip("bitsandbytes")
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(middling), bits], capture_output=True, text=True, cwd=ROOT
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    estimated, used = map(int, done.stdout.split())
    assert 0.95 * used < estimated < 1.5 * used, (estimated, used)


def test_a_ranker_that_does_not_fit_is_refused_before_it_is_loaded(middling, tmp_path, monkeypatch):
    ranker = {"kind": "trained", "options": {
        "folder": str(middling), "form": "choice", "max_tokens": 256, "device": "cpu",
    }}  # fmt: skip
    solution = load(None, [f"rankers=[{json.dumps(ranker)}]", "limits.ram=900MB", "device=cpu"])
    # Alone, or with the stage of answering, where this process holds more already.
    with pytest.raises((LimitError, Faults), match="load_in_4bit") as refused:
        make_rankers(solution)
    assert "limits.ram" in str(refused.value) and "rank: bert" in str(refused.value)
    make_rankers(load(None, [f"rankers=[{json.dumps(ranker)}]", "limits.ram=8GB", "device=cpu"]))


def test_the_index_is_closed_before_a_large_ranker_and_opened_again(middling, facts_index, told, monkeypatch):
    """The similarity ranker needs it, comes second in the settings, and gives the second table."""
    large = {"kind": "trained", "weight": 1e-9, "options": {
        "folder": str(middling), "form": "choice", "max_tokens": 64, "device": "cpu", "template": "own",
    }}  # fmt: skip
    settings = [f"rankers=[{json.dumps(large)}, {{kind: similarity}}]", f"index={facts_index}", "device=cpu"]
    resources = Resources.open(load(None, settings))
    questions = Questions.read(told["validation"])
    first = predict(resources, questions, None)
    assert resources.index is None and resources.encoder is None
    alone = predict(Resources.open(load(None, ["device=cpu"])), questions, None)
    assert abs(first - alone).max() < 1e-6
    assert resources.retriever().index.manifest and resources.encoder is not None
    assert (predict(resources, questions, None) == first).all()


def test_a_token_beyond_the_embedding(tmp_path):
    folder = hub_folder("llama", tmp_path / "llama", safe=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<new{n}>" for n in range(25)])
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    said = r"pad_token '\[PAD\]' is number 42\d, but the embedding has 420 rows"
    with pytest.raises(CheckpointError, match=said) as told:
        load_backbone(str(folder), "binary", device="cpu")
    assert "tokenizer_config.json" in str(told.value) and "'</s>'" in str(told.value)


def test_a_tokenizer_without_any_token_to_pad_with(tmp_path):
    folder = backbone("llama", tmp_path / "llama")
    told = json.loads((folder / "tokenizer_config.json").read_text())
    for name in ("pad_token", "unk_token", "eos_token", "bos_token"):
        told.pop(name, None)
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="has no padding token") as said:
        load_backbone(str(folder), "binary", device="cpu")
    assert '"pad_token": "</s>"' in str(said.value)


def test_a_decoder_of_t5_begins_with_padding_and_of_others_as_they_say(tmp_path):
    folder = backbone("t5", tmp_path / "t5")
    told = json.loads((folder / "config.json").read_text())
    assert told.pop("decoder_start_token_id") == told["pad_token_id"]
    (folder / "config.json").write_text(json.dumps(told))
    assert load_backbone(str(folder), "letters", device="cpu").model.config.decoder_start_token_id == 0
    told |= {"model_type": "bart", "d_model": 64}
    (folder / "config.json").write_text(json.dumps({**told, "decoder_start_token_id": None}))
    with pytest.raises(CheckpointError, match="which token the decoder starts with"):
        load_backbone(str(folder), "letters", device="cpu")


def test_weights_that_bitsandbytes_saved_are_not_asked_without_it(tmp_path, monkeypatch):
    folder = backbone("llama", tmp_path / "small")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    options, find = {"folder": str(folder), "form": "options", "max_tokens": 48}, importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "bitsandbytes" else find(name, *more)
    )
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        check_ranker("trained", options, "rankers.0")
