"""Tiny backbones of every family, and a task that they learn in seconds: the answer stands in the context."""

import csv
import random

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
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
    Qwen2TokenizerFast,
    RobertaConfig,
    T5Config,
)  # fmt: skip

from kaggle_rag.data.contexts import Context, QuestionContexts, lines_as_snippets, write_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.models.answering.item import Item

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
# Of sliding attention; shorter than a row, so that a mask that forgets it shows.
WINDOW = 8


def some(kinds, *often):
    """Families as a test's parameters; the fast tier tries these alone.

    A mistral without a window is a llama.
    """
    return [
        kind if kind in often else pytest.param(kind, marks=pytest.mark.slow)
        for kind in kinds
        if kind != "mistral"
    ]


def asked(prompt, options, texts, answer):
    """A question as a model meets it, each option with the lines of its text as snippets."""
    return Item(prompt, tuple(options), tuple(map(lines_as_snippets, texts)), answer)


def tokenizer(kind):
    """A word-level tokenizer with the special tokens that a family puts around its texts."""
    if kind == "qwen2":
        return bytes_tokenizer()
    vocabulary = {word: place for place, word in enumerate([*SPECIAL, *TEXT, *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    single, pair = {
        "t5": ("$A </s>", "$A </s> $B </s>"),
        **dict.fromkeys(("llama", "mistral", "gemma", "phi3"), ("<s> $A", "<s> $A $B")),
    }.get(kind, ("<s> $A </s>", "<s> $A </s> $B:1 </s>:1"))
    made.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("<s>", 3), ("</s>", 1)]
    )
    typed = kind in ("bert", "electra", "deberta-v2")
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<s>",
        model_input_names=["input_ids", *(["token_type_ids"] if typed else []), "attention_mask"],
    )  # fmt: skip


def bytes_tokenizer():
    """Byte pairs as Qwen has them; transformers puts its own rules around the merges of such a type."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = [*TEXT, *WORDS]
    texts = [f"{word}\n\nQuestion: {word} {other} {word}." for word in words for other in words]
    made.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=500, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )  # fmt: skip
    return Qwen2TokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def backbone(kind, folder, seed=0):
    """A checkpoint of a tiny, untrained model, as a hub has it."""
    words = tokenizer(kind)
    torch.manual_seed(seed)
    config = BACKBONES[kind](len(words))
    whole = AutoModelForSeq2SeqLM if kind == "t5" else AutoModelForCausalLM if kind in DECODERS else AutoModel
    whole.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def decoder(kind, folder):
    """Such a checkpoint of a decoder; "mistral, sliding" attends within a window."""
    kind, _, sliding = kind.partition(", ")
    made = backbone(kind, folder)
    if sliding:
        config = BACKBONES[kind](AutoModelForCausalLM.from_pretrained(made).config.vocab_size)
        config.sliding_window = WINDOW
        config.save_pretrained(made)
    return made


def sharded(folder, layers, seed=0):
    """A tiny, untrained Llama of so many layers in several files, as a hub has large ones."""
    words = tokenizer("llama")
    config = BACKBONES["llama"](len(words))
    config.num_hidden_layers = layers
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder, max_shard_size="20KB")
    words.save_pretrained(folder)
    return folder


def rows(count, seed, width=3, words=WORDS):
    """Questions with contexts: one word of the context is an option, and the answer."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        options = rng.sample(words, width)
        answer = rng.randrange(width)
        found.append(
            {"id": f"{seed}-{number}", "prompt": "the right ?", "context": options[answer]}
            | dict(zip("ABCDE", options))
            | {"answer": "ABCDE"[answer]}
        )
    return found


def asked_either_way(count, seed, prompts):
    """Of two options the context holds one, and the prompt says whether that one or the other is right."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        options, there = rng.sample(WORDS, 2), rng.randrange(2)
        prompt, holds = rng.choice(prompts)
        row = {"id": f"{seed}-{number}", "prompt": prompt, "context": options[there]}
        found.append(row | dict(zip("AB", options)) | {"answer": "AB"[there if holds else 1 - there]})
    return found


def files(folder, name, found):
    """The rows as the two files that a run reads: questions, and their contexts."""
    questions, contexts = folder / f"{name}.csv", folder / f"{name}.parquet"
    with questions.open("w", newline="") as file:
        writer = csv.DictWriter(file, dict.fromkeys(key for row in found for key in row))
        writer.writeheader()
        writer.writerows(found)
    read = Questions.read(questions)
    made = [QuestionContexts(Context(lines_as_snippets(text or ""), ()), ()) for text in read.contexts]
    write_contexts(contexts, read, made, {})
    return questions, contexts


FORMS = {**dict.fromkeys(ENCODERS, "choice"), **dict.fromkeys(DECODERS, "binary"), "t5": "letters"}
COMMANDS = {
    **dict.fromkeys(ENCODERS, "multiple-choice"),
    **dict.fromkeys(DECODERS, "causal"),
    "t5": "seq2seq",
}


def task(folder, count=256, judged=60, words=WORDS, prompts=()):
    """The settings that say what is learnt and what it is judged by; with prompts, by `asked_either_way`."""
    made = [
        asked_either_way(number, seed, prompts) if prompts else rows(number, seed, words=words)
        for seed, number in enumerate((count, judged))
    ]
    questions, contexts = files(folder, "train", made[0])
    validation, validation_contexts = files(folder, "valid", made[1])
    return {
        "questions": questions, "contexts_file": contexts, "validation": validation,
        "validation_contexts": validation_contexts, "max_tokens": 48, "batch": 16, "device": "cpu",
    }  # fmt: skip
