"""Sentence encoders of the BERT family with only torch and tokenizers, so that a search starts quickly.

Importing transformers' models takes twice as long as importing torch, and sentence-transformers twice as
long as both. Most sentence encoders are plain BERTs (MiniLM, bge, e5, gte), whose forward pass is short.
Every configuration key is checked; a folder that needs anything else is left to sentence-transformers,
which every index is built with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from kaggle_rag.models.checkpoints import todays_name

if TYPE_CHECKING:
    import torch

_PACKAGE = "sentence_transformers."
_MODULES = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
# Values that settings may have; those left out only affect lengths or names.
_TRANSFORMER: dict[str, tuple[Any, ...]] = {
    "do_lower_case": (False,),
    "transformer_task": ("feature-extraction",),
    "modality_config": ({"text": {"method": "forward", "method_output_name": "last_hidden_state"}},),
    "module_output_name": ("token_embeddings",),
}
_CONFIG: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("gelu",),
    "position_embedding_type": (None, "absolute"),
    "is_decoder": (None, False),
    "add_cross_attention": (None, False),
    "quantization_config": (None,),
    "auto_map": (None,),
    "dtype": (None, "float32"),
    "torch_dtype": (None, "float32"),
}
_TOKENIZER: dict[str, tuple[Any, ...]] = {
    "tokenizer_class": ("BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"),
    "do_basic_tokenize": (None, True),
    "never_split": (None, []),
    "split_special_tokens": (None, False),
    "padding_side": (None, "right"),
    "truncation_side": (None, "right"),
    "auto_map": (None,),
}
# Both spellings of a setting: tokenizer_config.json's and the normalizer's in tokenizer.json.
_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "said": "attention.output.dense",
    "said_norm": "attention.output.LayerNorm",
    "wide": "intermediate.dense",
    "narrow": "output.dense",
    "norm": "output.LayerNorm",
}
# In a checkpoint, but without effect on its token vectors.
_UNUSED = ("pooler.", "embeddings.position_ids", "embeddings.token_type_ids")
_FAULTS = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, SafetensorError)


class Tokens:
    """The tokenizer of such a folder, with the call signature that this kit uses for transformers' ones."""

    def __init__(self, raw: Any) -> None:
        # ``[SEP]`` in a text is plain characters; tokens that the tokenizer adds itself stay special.
        raw.encode_special_tokens = True
        self._raw = raw

    def __call__(
        self,
        texts: Sequence[str],
        *,
        add_special_tokens: bool = True,
        truncation: bool = False,
        max_length: int | None = None,
        **_: object,
    ) -> dict[str, list[list[int]]]:
        """``input_ids`` of each text; ``max_length`` counts the special tokens."""
        if truncation and max_length:
            self._raw.enable_truncation(max_length)
        else:
            self._raw.no_truncation()
        encodings = self._raw.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        return {"input_ids": [each.ids for each in encodings]}

    def pad(self, rows: dict[str, list[list[int]]], **_: object) -> dict[str, torch.Tensor]:
        """Rows of equal length, ``(n, tokens)`` int64, padded on the right, and their attention mask."""
        import torch

        ids = rows["input_ids"]
        shape = len(ids), max(map(len, ids))
        padded, mask = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
        for number, row in enumerate(ids):
            padded[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        return {"input_ids": padded, "attention_mask": mask}


class SentenceBert:
    """BERT (Devlin et al. 2019, https://arxiv.org/abs/1810.04805) with mean or first-token pooling."""

    def __init__(self, folder: Path, config: dict[str, Any], pooling: str, tokenizer: Tokens) -> None:
        from safetensors.torch import load_file

        self.tokenizer, self._pooling = tokenizer, pooling
        self._heads, self._epsilon = int(config["num_attention_heads"]), float(config["layer_norm_eps"])
        weights = {todays_name(name): part for name, part in load_file(folder / "model.safetensors").items()}
        _require_float32(weights)
        self._embed = _embeddings(weights)
        self._layers = [_layer(weights, number) for number in range(config["num_hidden_layers"])]
        _require_plain(weights, config)

    def to(self, device: str) -> SentenceBert:
        """This encoder, with its weights moved to a device."""
        for part in (self._embed, *self._layers):
            part |= {name: weight.to(device) for name, weight in part.items()}
        return self

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """``sentence_embedding`` ``(n, d)`` float32 of ids and mask ``(n, tokens)`` int64."""
        import torch.nn.functional as F

        ids, mask = features["input_ids"], features["attention_mask"]
        embed = self._embed
        hidden = F.embedding(ids, embed["word"]) + embed["type"][0] + embed["position"][: ids.shape[1]]
        hidden = F.layer_norm(hidden, hidden.shape[-1:], embed["norm"], embed["norm_bias"], self._epsilon)
        visible = None if bool(mask.all()) else mask[:, None, None].bool()
        for layer in self._layers:
            hidden = self._read(hidden, visible, layer)
        if self._pooling == "cls":
            return {"sentence_embedding": hidden[:, 0]}
        text = mask[..., None].to(hidden.dtype)
        return {"sentence_embedding": (hidden * text).sum(1) / text.sum(1).clamp(min=1e-9)}

    def _read(
        self, hidden: torch.Tensor, visible: torch.Tensor | None, layer: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """One layer: attention, then two linear maps, each added to its input and normalised."""
        import torch.nn.functional as F

        def linear(name: str, given: torch.Tensor) -> torch.Tensor:
            return F.linear(given, layer[name], layer[f"{name}_bias"])

        def normalised(name: str, given: torch.Tensor) -> torch.Tensor:
            return F.layer_norm(
                given, given.shape[-1:], layer[name], layer[f"{name}_bias"], self._epsilon
            )

        shape = (*hidden.shape[:2], self._heads, -1)
        query, key, value = (
            linear(name, hidden).view(shape).transpose(1, 2) for name in ("query", "key", "value")
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        attended = linear("said", attended.transpose(1, 2).reshape(hidden.shape))
        hidden = normalised("said_norm", attended + hidden)
        return normalised("norm", linear("narrow", F.gelu(linear("wide", hidden))) + hidden)


def sentence_bert(folder: Path, device: str) -> SentenceBert | None:
    """The encoder of a folder on a device; ``None`` if it is anything but such a BERT."""
    try:
        config = _json(folder / "config.json")
        if config["model_type"] != "bert" or not _fits(config, _CONFIG):
            return None
        if (pooling := _pooling(folder)) is None or (tokenizer := _tokenizer(folder)) is None:
            return None
        return SentenceBert(folder, config, pooling, tokenizer).to(device)
    except _FAULTS:
        # Whatever is wrong with it, sentence-transformers reports it.
        return None


def _pooling(folder: Path) -> str | None:
    """``mean`` or ``cls`` if the folder has a transformer and such a pooling, and nothing else."""
    modules = _json(folder / "modules.json")
    kinds = [each["type"].rpartition(".")[2] for each in modules]
    if kinds not in _MODULES or not all(each["type"].startswith(_PACKAGE) for each in modules):
        return None
    settings = _json(folder / "sentence_bert_config.json")
    settings.pop("max_seq_length", None)
    if modules[0]["path"] or not all(settings[key] in _TRANSFORMER[key] for key in settings):
        return None
    pooling = _json(folder / modules[1]["path"] / "config.json")
    if not pooling.pop("include_prompt", True):
        return None
    pooling.pop("word_embedding_dimension", None)
    pooling.pop("embedding_dimension", None)
    if set(pooling) == {"pooling_mode"}:
        mode = pooling["pooling_mode"]
        return mode if mode in _POOLINGS.values() else None
    chosen = [key for key, value in pooling.items() if value]
    return _POOLINGS.get(chosen[0]) if len(chosen) == 1 else None


def _tokenizer(folder: Path) -> Tokens | None:
    """The folder's WordPiece tokenizer, if its two descriptions agree."""
    from tokenizers import Tokenizer

    config, tokenizer = _json(folder / "tokenizer_config.json"), _json(folder / "tokenizer.json")
    normalizer = tokenizer["normalizer"]
    if not _fits(config, _TOKENIZER) or tokenizer["model"]["type"] != "WordPiece":
        return None
    if normalizer["type"] != "BertNormalizer" or tokenizer["pre_tokenizer"] != {"type": "BertPreTokenizer"}:
        return None
    if any(config[key] != normalizer[name] for key, name in _NORMALIZER.items() if key in config):
        return None
    added = {str(token["id"]): token["content"] for token in tokenizer["added_tokens"]}
    if any(added[key] != token["content"] for key, token in config.get("added_tokens_decoder", {}).items()):
        return None
    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if not raw.num_special_tokens_to_add(is_pair=False):
        # An empty text would give a row without tokens.
        return None
    raw.no_padding()
    return Tokens(raw)


def _embeddings(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The embeddings' weights, taken out of ``weights``."""
    embeddings = {
        name: weights.pop(f"embeddings.{key}_embeddings.weight")
        for name, key in (("word", "word"), ("type", "token_type"), ("position", "position"))
    }
    return embeddings | {
        "norm": weights.pop("embeddings.LayerNorm.weight"),
        "norm_bias": weights.pop("embeddings.LayerNorm.bias"),
    }


def _layer(weights: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    """The weights of one layer, taken out of ``weights``."""
    layer = {}
    for name, key in _LAYER.items():
        layer[name] = weights.pop(f"encoder.layer.{number}.{key}.weight")
        layer[f"{name}_bias"] = weights.pop(f"encoder.layer.{number}.{key}.bias")
    return layer


def _require_plain(left: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    """Raise ``ValueError`` for weights that are not read here."""
    if unread := [name for name in left if not name.startswith(_UNUSED)]:
        raise ValueError(f"unknown weights: {unread[0]}")
    if config["hidden_size"] % config["num_attention_heads"]:
        raise ValueError("heads of unequal width")


def _require_float32(weights: dict[str, torch.Tensor]) -> None:
    """Raise ``ValueError`` unless weights are float32: sentence-transformers would not convert them."""
    if any(str(weight.dtype) != "torch.float32" for weight in weights.values() if weight.is_floating_point()):
        raise ValueError("weights are not float32")


def _fits(settings: dict[str, Any], allowed: dict[str, tuple[Any, ...]]) -> bool:
    return all(settings.get(key) in values for key, values in allowed.items())


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
