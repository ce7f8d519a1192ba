"""Tiny models laid out file by file as their folders on the hub are."""

import io
import json
import random

import torch
from ranker_toys import WORDS
from sentencepiece import SentencePieceTrainer
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    DebertaV2Config,
    LlamaConfig,
    T5Config,
)

# Words that every probe of a conversion and every row of the toys' task is made of, or their letters.
_TEXTS = [
    "Question : the right ? Proposed answer Is Answer . A B C D E",
    "Which of the following statements accurately describes the impact of Modified Newtonian Dynamics?",
    'abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 ,.;:!?()[]<>|/#=+-"\'',
]
_SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
_SPELT = {
    "deberta": {"model_type": "unigram", "pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3,
                "pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
    "t5": {"model_type": "unigram", "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    "llama": {"model_type": "bpe", "unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1,
              "byte_fallback": True},
}  # fmt: skip
SOURCES = {"deberta": "spm.model", "t5": "spiece.model", "llama": "tokenizer.model"}


def pieces(kind):
    """A sentencepiece model of the family's special pieces, as bytes."""
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=6)) for _ in range(300)] + 20 * _TEXTS
    # Letters are pieces of their own in every vocabulary that was ever published.
    texts += [" ".join(rng.sample("ABCDE", 5)) for _ in range(300)]
    made = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=made, vocab_size=400 if kind == "llama" else 180,
        hard_vocab_limit=False, minloglevel=2, character_coverage=1.0, **_SPELT[kind],
    )  # fmt: skip
    return made.getvalue()


def _model(kind):
    torch.manual_seed(0)
    if kind == "deberta":
        config = DebertaV2Config(
            **_SMALL, vocab_size=300, relative_attention=True, pos_att_type=["p2c", "c2p"], pad_token_id=0,
            position_biased_input=False, norm_rel_ebd="layer_norm", share_att_key=True, position_buckets=32,
            type_vocab_size=0, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        return AutoModel.from_config(config)
    if kind == "llama":
        return AutoModelForCausalLM.from_config(LlamaConfig(**_SMALL, vocab_size=420, num_key_value_heads=2))
    return AutoModelForSeq2SeqLM.from_config(
        T5Config(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, vocab_size=320, dropout_rate=0.0)
    )


_TOLD = {
    "deberta": {"do_lower_case": False, "vocab_type": "spm"},
    "t5": {"extra_ids": 100, "model_max_length": 512, "eos_token": "</s>", "pad_token": "<pad>",
           "unk_token": "<unk>"},
    "llama": {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
              "unk_token": "<unk>", "add_bos_token": True, "add_eos_token": False, "legacy": False},
}  # fmt: skip


def hub_folder(kind, folder, *, safe=False, shards=1):
    """``config.json``, weights (of torch, or ``safe``), sentencepiece, and what lies beside them there.

    A ``kind`` is that of microsoft/deberta-v3-large, google/flan-t5-large or mistralai/Mistral-7B-v0.1.
    """
    folder.mkdir(parents=True)
    model = _model(kind)
    model.config.save_pretrained(folder)
    # The hub's older folders do not say by which classes they were written.
    config = json.loads((folder / "config.json").read_text())
    for key in ("architectures", "dtype", "transformers_version"):
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config))
    if safe:
        model.save_pretrained(folder)
    else:
        _torch_files(model.state_dict(), folder, shards)
    (folder / SOURCES[kind]).write_bytes(pieces(kind))
    (folder / "tokenizer_config.json").write_text(json.dumps(_TOLD[kind]))
    (folder / "README.md").write_text("a card")
    (folder / "tf_model.h5").write_bytes(b"of another library")
    return folder


def _torch_files(state, folder, shards):
    names = list(state)
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin")
        return
    table = {}
    for shard in range(shards):
        file = f"pytorch_model-{shard + 1:05}-of-{shards:05}.bin"
        part = {name: state[name].clone() for name in names[shard::shards]}
        torch.save(part, folder / file)
        table |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": table}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def cached(folder, name, cache):
    """The folder as the Hugging Face cache keeps it: blobs, and links to them by a commit's names."""
    place = cache / ("models--" + name.replace("/", "--"))
    commit = "0" * 40
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    (place / "blobs").mkdir()
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        (place / "blobs" / str(number)).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
