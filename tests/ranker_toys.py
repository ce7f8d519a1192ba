"""Tiny backbones of every family, and a task that they learn in seconds: the answer stands in the context."""

import random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BertConfig,
    DebertaV2Config,
    ElectraConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    RobertaConfig,
    T5Config,
)  # fmt: skip

WORDS = ["amber", "birch", "cedar", "delta", "ember", "frost", "grove", "heron"]
SPECIAL = ["<pad>", "</s>", "<unk>", "<s>", "<mask>"]
TEXT = [
    "Question",
    ":",
    "Proposed",
    "answer",
    "Is",
    "the",
    "right",
    "?",
    "Answer",
    ".",
    "A",
    "B",
    "C",
    "D",
    "E",
]
_SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
          "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 3}  # fmt: skip
# Without dropout they learn in a third of the steps; adapters bring theirs.
_ENCODER = {**_SMALL, "max_position_embeddings": 64, "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0}  # fmt: skip
_DECODER = {**_SMALL, "max_position_embeddings": 64, "num_key_value_heads": 2}

BACKBONES = {
    "deberta-v2": lambda v: DebertaV2Config(
        **_ENCODER, vocab_size=v, relative_attention=True, pos_att_type=["p2c", "c2p"],
        position_biased_input=False, norm_rel_ebd="layer_norm", share_att_key=True, position_buckets=32,
    ),
    "electra": lambda v: ElectraConfig(**_ENCODER, vocab_size=v, embedding_size=64),
    "roberta": lambda v: RobertaConfig(**_ENCODER, vocab_size=v),
    "bert": lambda v: BertConfig(**_ENCODER, vocab_size=v),
    "llama": lambda v: LlamaConfig(**_DECODER, vocab_size=v),
    "mistral": lambda v: MistralConfig(**_DECODER, vocab_size=v),
    "phi3": lambda v: Phi3Config(**_DECODER, vocab_size=v),
    "qwen2": lambda v: Qwen2Config(**_DECODER, vocab_size=v),
    "gemma": lambda v: GemmaConfig(**_DECODER, vocab_size=v, head_dim=16),
    "t5": lambda v: T5Config(
        d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, vocab_size=v, decoder_start_token_id=0
    ),
}  # fmt: skip


ENCODERS = ("deberta-v2", "electra", "roberta", "bert")
DECODERS = ("llama", "mistral", "phi3", "qwen2", "gemma")


def tokenizer(kind):
    """A word-level tokenizer with the special tokens that a family puts around its texts."""
    vocabulary = {word: place for place, word in enumerate([*SPECIAL, *TEXT, *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    single, pair = {
        "t5": ("$A </s>", "$A </s> $B </s>"),
        **dict.fromkeys(("llama", "mistral", "gemma", "phi3"), ("<s> $A", "<s> $A $B")),
        "qwen2": ("$A", "$A $B"),
    }.get(kind, ("<s> $A </s>", "<s> $A </s> $B:1 </s>:1"))
    made.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("<s>", 3), ("</s>", 1)]
    )
    typed = kind in ("bert", "electra", "deberta-v2")
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<s>",
        model_input_names=["input_ids", *(["token_type_ids"] if typed else []), "attention_mask"],
    )  # fmt: skip


def backbone(kind, folder, seed=0):
    """A checkpoint of a tiny, untrained model, as a hub has it."""
    words = tokenizer(kind)
    torch.manual_seed(seed)
    config = BACKBONES[kind](len(words))
    whole = AutoModelForSeq2SeqLM if kind == "t5" else AutoModelForCausalLM if kind in DECODERS else AutoModel
    whole.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def rows(count, seed, width=3):
    """Questions with contexts: one word of the context is an option, and the answer."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        options = rng.sample(WORDS, width)
        answer = rng.randrange(width)
        found.append(
            {"id": f"{seed}-{number}", "prompt": "the right ?", "context": options[answer]}
            | dict(zip("ABCDE", options))
            | {"answer": "ABCDE"[answer]}
        )
    return found
