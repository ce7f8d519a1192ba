"""Tiny models as users have them: an encoder and a cross-encoder of two layers over an alphabet."""

from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

TEXTS = ["Iron rusts.", "", "a", "Water boils at 100 °C. " * 60, "鉄 é ß", "Iron rusts."]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def tiny_model(folder, *, prompts=None, specials=True, seed=0):
    """A user's own sentence-transformers model: BERT of two layers over an alphabet."""
    import torch

    torch.manual_seed(seed)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.:"
    words = SPECIALS + list(letters) + ["##" + letter for letter in letters]
    raw = Tokenizer(WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    if specials:
        raw.post_processor = TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    bert = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(bert).save_pretrained(folder / "bert")
    PreTrainedTokenizerFast(tokenizer_object=raw, **names).save_pretrained(folder / "bert")
    model = SentenceTransformer(
        modules=[Transformer(str(folder / "bert"), max_seq_length=64), Pooling(32)],
        device="cpu", prompts=prompts,
    )  # fmt: skip
    # A model card would ask the hub about the base model.
    model.save(str(folder / "model"), create_model_card=False)
    return folder / "model"


def tiny_cross_encoder(folder, *, scores=1, seed=0):
    """A user's own re-ranker: BERT of two layers over an alphabet, with a head."""
    import torch

    torch.manual_seed(seed)
    if not (folder / "bert").exists():
        tiny_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder / "bert", model_max_length=64)
    config = BertConfig.from_pretrained(folder / "bert", num_labels=scores, initializer_range=0.1)
    BertForSequenceClassification(config).save_pretrained(folder / "pairs")
    tokenizer.save_pretrained(folder / "pairs")
    return folder / "pairs"
