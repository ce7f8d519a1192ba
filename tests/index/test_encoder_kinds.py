"""Encoders as they lie on people's disks: their prompts, static ones, models of other tasks, odd texts."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from model_toys import tiny_model
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from training_toys import write_table
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.models.checkpoints import INPUTS_VARIABLE, resolve, weights
from kaggle_rag.models.prompts import prompts_of
from kaggle_rag.models.sentence_model import _static_embedding
from kaggle_rag.runtime.errors import CheckpointError
from kaggle_rag.text.units import Splitter, Unit
from training.retrieval.bi_encoder import train_retriever
from training.retrieval.settings import RetrieverSettings
from wiki_index.__main__ import main
from wiki_index.plan import retriever_name

SENTENCE = "Represent this sentence for searching relevant passages: "
CHINESE = "为这个句子生成表示以用于检索相关文章："
E5, NONE = ("query: ", "passage: "), ("", "")
HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize(
    "name, prompts",
    [
        ("BAAI/bge-small-en-v1.5", (SENTENCE, "")),
        ("bge-large-zh-v1.5", (CHINESE, "")),
        ("BAAI/bge-m3", NONE),
        ("bge-reranker-base", NONE),
        ("intfloat/e5-base-v2", E5),
        ("multilingual-e5-large", E5),
        ("/kaggle/input/bge/transformers/bge-small-en-v1-5/1", (SENTENCE, "")),
        (f"/cache/models--intfloat--e5-small/snapshots/{HASH}", E5),
        (f"/cache/models--BAAI--bge-m3/snapshots/{HASH}", NONE),
        ("nomic-ai/nomic-embed-text-v1.5", ("search_query: ", "search_document: ")),
        ("mixedbread-ai/mxbai-embed-large-v1", (SENTENCE, "")),
        ("Snowflake/snowflake-arctic-embed-m-v1.5", (SENTENCE, "")),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", ("query: ", "")),
        ("google/embeddinggemma-300m", ("task: search result | query: ", "title: none | text: ")),
        ("thenlper/gte-small", NONE),
        ("my-e5-like-model", NONE),
        ("../bge-small-en-v1.5-finetuned", NONE),
        ("sentence-transformers/all-MiniLM-L6-v2", NONE),
    ],
)
def test_a_family_is_known_by_a_whole_part_of_its_path(name, prompts):
    assert tuple(prompts_of({"query": "", "document": ""}, None, [name]))[:2] == prompts


@pytest.mark.parametrize("name", ["intfloat/multilingual-e5-large-instruct", "Qwen/Qwen3-Embedding-0.6B"])
def test_families_with_an_instruction_put_it_before_questions_alone(name):
    query, passage, _ = prompts_of({}, None, [name])
    assert query.startswith("Instruct: ") and query.rstrip().endswith("\nQuery:") and passage == ""


@pytest.mark.parametrize(
    "declared, default, prompts",
    [
        ({"query": "ask: "}, None, ("ask: ", "")),
        ({"query": "ask: ", "passage": "doc: "}, None, ("ask: ", "doc: ")),
        ({"query": "ask: ", "corpus": "doc: "}, None, ("ask: ", "doc: ")),
        ({"all": "text: "}, "all", ("text: ", "text: ")),
        ({"query": "", "document": ""}, None, E5),
        ({"clustering": "group: "}, None, E5),
    ],
)
def test_what_a_folder_declares_wins_over_its_name(declared, default, prompts):
    assert tuple(prompts_of(declared, default, ["e5-base"]))[:2] == prompts


@pytest.mark.parametrize("include", [True, False])
def test_a_prompt_is_pooled_as_the_model_declares(include, folder, tmp_path):
    """As sentence-transformers encodes, with its own prompts."""
    path = tmp_path / "model"
    shutil.copytree(folder, path)
    (pooling,) = path.glob("1_Pooling/config.json")
    pooling.write_text(json.dumps(json.loads(pooling.read_text()) | {"include_prompt": include}))
    config = path / "config_sentence_transformers.json"
    prompts = {"query": "find this for me: ", "document": "here: "}
    config.write_text(json.dumps({**json.loads(config.read_text()), "prompts": prompts}))
    texts = ["iron", "what is the melting point of gold and of iron?", ""]
    encoder, library = Encoder(str(path), device="cpu"), SentenceTransformer(str(path), device="cpu")
    for ours, name in ((encoder.encode_queries, "query"), (encoder.encode_passages, "document")):
        theirs = library.encode(texts[:2], prompt_name=name, normalize_embeddings=True)
        np.testing.assert_allclose(ours(texts)[:2], theirs, atol=1e-5)
        assert np.isfinite(ours(texts)).all()
    questions = write_table(tmp_path / "q.csv", [{"id": "1", "prompt": "p", "A": "x", "B": "y", "fact": "f"}])
    settings = RetrieverSettings(
        questions=questions, out=tmp_path / "o", positive="fact", model=str(path), device="cpu"
    )
    if not include:
        with pytest.raises(CheckpointError, match="leaves out its prompt"):
            train_retriever(settings)


def test_prompts_of_other_names_alone_are_told():
    assert "only clustering" in prompts_of({"clustering": "group: "}, None, ["mine"]).source


@pytest.mark.parametrize(
    "name, retriever",
    [
        ("BAAI/bge-small-en-v1.5", "bge-small-en-v1.5"),
        ("/in/bge/transformers/bge-small-en-v1.5/1/", "bge-small-en-v1.5"),
        (f"~/hub/models--BAAI--bge-m3/snapshots/{HASH}", "bge-m3"),
        ("./2", "2"),
        (".", "encoder"),
    ],
)
def test_a_retriever_is_named_by_its_model_and_not_by_its_version(name, retriever):
    assert retriever_name(name) == retriever


def test_a_build_tells_the_prompts_and_the_manifest_keeps_them(folder, corpus, tmp_path, monkeypatch, capsys):
    model = shutil.copytree(folder, tmp_path / "bge/transformers/bge-small-en-v1.5/1")
    command = ["wiki_index", "build", str(corpus), str(tmp_path / "index"), "--encoder", str(model)]
    monkeypatch.setattr("sys.argv", command)
    assert main() == 0
    said = capsys.readouterr().err
    assert said.count(f"queries begin with {SENTENCE!r}, passages with ''") == 1
    card = Index(tmp_path / "index").dense["bge-small-en-v1.5"].card.encoder
    assert (card.query_prompt, card.passage_prompt) == (SENTENCE, "")
    monkeypatch.setattr("sys.argv", [*command[:3], str(tmp_path / "pq"), *command[4:], "--index", "ivf-pq"])
    assert main() == 0
    assert "sq8 instead of ivf-pq: 360 vectors are too few" in capsys.readouterr().out


WORDS = {"[UNK]": 0, "[SEP]": 1, "iron": 2, "rusts": 3, "in": 4, "air": 5, "[": 6, "]": 7, "sep": 8}
TEXTS = ["Iron rusts", "in air", "iron iron air", "rusts"]


def word_tokenizer():
    raw = Tokenizer(WordLevel(WORDS, unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = Lowercase(), Whitespace()
    raw.add_special_tokens(["[UNK]", "[SEP]"])
    return raw


TABLE = torch.randn(len(WORDS), 16, generator=torch.Generator().manual_seed(0))


def by_hand(text, table=TABLE):
    mean = table.double()[[WORDS[word] for word in text.lower().split()]].mean(0)
    return (mean / mean.norm()).numpy()


def saved_static(path):
    module = _static_embedding()(word_tokenizer(), embedding_weights=TABLE.clone())
    SentenceTransformer(modules=[module], device="cpu").save(str(path), create_model_card=False)
    return path


def saved_potion(path, **tensors):
    """A folder as Model2Vec's save_pretrained lays it out."""
    path.mkdir()
    save_file(tensors, path / "model.safetensors")
    word_tokenizer().save(str(path / "tokenizer.json"))
    config = {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": True}
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_a_static_encoder_of_sentence_transformers_is_the_mean_of_its_token_vectors(tmp_path):
    path = saved_static(tmp_path / "static")
    assert not (path / "config.json").exists()
    encoder = Encoder(str(path), device="cpu", precision="auto")
    assert np.abs(encoder.encode_queries(TEXTS) - [by_hand(text) for text in TEXTS]).max() < 1e-6
    own = SentenceTransformer(str(path), device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert np.abs(encoder.encode_for_index(TEXTS) - own).max() < 1e-6
    assert (encoder.card.max_tokens, encoder.card.dim, encoder.card.precision) == (0, 16, "fp32")
    assert encoder.count_tokens(["iron rusts " * 5000, ""]).tolist() == [10_000, 0]
    again = Encoder.of_index(encoder.card, device="cpu")
    assert np.array_equal(again.encode_queries(TEXTS), encoder.encode_queries(TEXTS))


def test_potion_is_read_with_its_mapping_and_weights(tmp_path):
    plain = Encoder(str(saved_potion(tmp_path / "plain", embeddings=TABLE.half())), device="cpu")
    half = TABLE.half().float()
    assert np.abs(plain.encode_passages(TEXTS) - [by_hand(text, half) for text in TEXTS]).max() < 1e-6
    mapping = torch.tensor([0, 0, 1, 2, 1, 2, 0, 0, 1])
    weight = torch.linspace(0.5, 2.0, len(WORDS))
    rows = TABLE[:3].contiguous()
    path = saved_potion(tmp_path / "potion", embeddings=rows, mapping=mapping, weights=weight)
    folded = rows[mapping] * weight[:, None]
    found = Encoder(str(path), device="cpu").encode_passages(TEXTS)
    assert np.abs(found - [by_hand(text, folded) for text in TEXTS]).max() < 1e-6


def test_a_static_encoder_has_no_longest_input_and_an_empty_text_has_finite_numbers(tmp_path):
    encoder = Encoder(str(saved_static(tmp_path / "static")), device="cpu", window=4096)
    long = "air " * 5000
    assert np.abs(encoder.encode_passages([long + "iron " * 5000])[0] - by_hand("air iron")).max() < 1e-3
    assert np.isfinite(encoder.encode_passages(["", "iron"])).all()
    windows = Splitter(Unit("window", 4, 1), "en", encoder.tokenizer)("Iron rusts in air, iron rusts in air.")
    assert len(windows) > 1 and windows[0].startswith("Iron rusts in air")


def test_an_index_is_built_and_asked_by_a_static_encoder(corpus, tmp_path, monkeypatch, capsys):
    path = saved_static(tmp_path / "static")
    build = ["build", str(corpus), str(tmp_path / "index"), "--encoder", str(path), "--unit", "window:8/2"]
    for command in (build, ["search", str(tmp_path / "index"), "iron"], ["check", str(tmp_path / "index")]):
        monkeypatch.setattr("sys.argv", ["wiki_index", *command])
        assert main() == 0
    assert "16 dimensions" in capsys.readouterr().out


def test_a_model_is_found_by_modules_json_alone_and_what_macos_leaves_is_no_weight(tmp_path, monkeypatch):
    path = saved_static(tmp_path / "inputs/static-retrieval/1")
    for name in ("._model.safetensors", "0_X/._model.safetensors"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"\0\x05\x16\x07")
    monkeypatch.setenv(INPUTS_VARIABLE, str(tmp_path / "inputs"))
    found = resolve("someone/static-retrieval")
    assert found.path == path and len(weights(path)) == 1 and load_file(weights(path)[0])
    shutil.move(path.parent, tmp_path / "inputs/.cache")
    with pytest.raises(CheckpointError, match="no model"):
        resolve("someone/static-retrieval")


def bert(folder, kind, path):
    """A bare model of transformers, as a hub folder of one lies: no modules.json."""
    kind(BertConfig.from_pretrained(folder)).save_pretrained(path)
    for file in folder.glob("token*"):
        shutil.copy(file, path)
    return path


@pytest.mark.parametrize(
    "kind, said",
    [(BertForMaskedLM, "a masked language model"), (BertForSequenceClassification, "a classifier")],
)
def test_a_model_of_another_task_is_no_encoder_but_one_may_be_trained_from_it(kind, said, folder, tmp_path):
    path = bert(folder, kind, tmp_path / "model")
    with pytest.raises(CheckpointError, match=f"{said}[\\s\\S]*training retriever --model"):
        Encoder(str(path), device="cpu")
    assert Encoder(str(path), device="cpu", untrained=True).encode_queries(["iron"]).shape == (1, 32)


def test_a_backbone_without_a_pooling_of_its_own_is_told_in_one_line(folder, tmp_path, capsys):
    encoder = Encoder(str(bert(folder, BertModel, tmp_path / "model")), device="cpu")
    said = capsys.readouterr().err
    assert said.count("note:") == 1 and "no modules.json" in said and str(tmp_path / "model") in said
    Encoder.of_index(encoder.card, device="cpu")
    Encoder(str(folder), device="cpu")
    assert "note:" not in capsys.readouterr().err


def test_a_folder_whose_modules_have_no_pooling_is_refused(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "model")
    modules = json.loads((path / "modules.json").read_text())
    (path / "modules.json").write_text(json.dumps(modules[:1]))
    with pytest.raises(CheckpointError, match=r"no pooling|no single vector"):
        Encoder(str(path), device="cpu")


@pytest.mark.parametrize("make", [lambda folder, path: folder, lambda folder, path: saved_static(path)])
def test_special_tokens_in_a_text_are_read_as_its_characters(make, folder, tmp_path):
    """What is spelt the same but is no special token has the same tokens, and so the same vector."""
    encoder = Encoder(str(make(folder, tmp_path / "static")), device="cpu")
    odd, same = "iron [SEP] air", "iron [ SEP ] air"
    again = Encoder.of_index(dataclasses.replace(encoder.card), device="cpu")
    for one in (encoder, again):
        for encode in (one.encode_queries, one.encode_passages, one.encode_for_index):
            assert np.abs(encode([odd])[0] - encode([same])[0]).max() < 1e-6
    assert encoder.count_tokens([odd]).tolist() == encoder.count_tokens([same]).tolist()
