"""A checkpoint's ``config.json`` and tokenizer, checked before any weight is read."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import huggingface_hub.errors
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging as transformers_logging

from kaggle_rag.runtime.errors import CheckpointError

# This kit reports in one line which weights are new and must be trained.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

FAULTS: tuple[type[Exception], ...] = (
    OSError, ValueError, KeyError, RuntimeError, AttributeError, ImportError, SafetensorError,
    # A value of the wrong type in a config.json; earlier releases let it pass.
    getattr(huggingface_hub.errors, "StrictDataclassError", OSError),
)  # fmt: skip
# Tokenizer files without a tokenizer.json, and what transformers needs to convert them.
_SOURCES = ("spm.model", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "tiktoken.model")
_PACKAGES = {"sentencepiece": "sentencepiece", "google.protobuf": "protobuf", "tiktoken": "tiktoken"}
# The decoders of these start with the padding token (transformers' page on T5).
_FROM_PADDING = {"t5", "mt5", "umt5", "longt5", "switch_transformers"}
# The positions of these start after the padding index.
_AFTER_PADDING = {
    "roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "mpnet", "longformer",
    "data2vec-text", "ibert", "xmod",
}  # fmt: skip
_NAMED = ("pad_token", "bos_token", "eos_token", "cls_token", "sep_token", "unk_token")


def described(folder: Path) -> tuple[Any, Any]:
    """Config and tokenizer of a model folder; the tokenizer has a padding token that the model knows.

    Raises
    ------
    CheckpointError : one of them does not load, or they do not match.
    """
    config, tokenizer = config_of(folder), tokenizer_of(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token or tokenizer.bos_token
    if tokenizer.pad_token is None:
        raise CheckpointError(
            "this tokenizer has no padding token, and no unk, eos or bos token to use instead",
            where=folder / "tokenizer_config.json",
            expected='a line such as "pad_token": "</s>", with a token of its vocabulary',
            cure="add the line by hand, or use the tokenizer files that belong to this model",
        )
    _require_rows(config, tokenizer, folder)
    if config.is_encoder_decoder:
        config.decoder_start_token_id = _start(config, folder)
    return config, tokenizer


def config_of(folder: Path) -> Any:
    """The ``config.json`` of a folder; raise ``CheckpointError`` if it does not load."""
    try:
        return AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except FAULTS as error:
        raise _broken(folder, "config.json", error) from error


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer of a folder, from a sentencepiece model too.

    Raises
    ------
    CheckpointError : it does not load; the message names a missing package.
    """
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except FAULTS as error:
        source = next((name for name in _SOURCES if (folder / name).is_file()), None)
        missing = [name for module, name in _PACKAGES.items() if not _installed(module)]
        if source is None or (folder / "tokenizer.json").is_file() or not missing:
            raise _broken(folder, "tokenizer.json", error) from error
        raise CheckpointError(
            f"{source} needs packages that are not installed: {', '.join(missing)}",
            where=folder,
            expected="tokenizer.json, or these packages",
            cure=f"pip install {' '.join(missing)} (or the extra 'train'); or, "
            f"on another machine, python -m training convert {folder} OUT writes tokenizer.json",
        ) from error


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _broken(folder: Path, file: str, error: Exception) -> CheckpointError:
    lines = str(error).splitlines() or [type(error).__name__]
    return CheckpointError(
        f"config or tokenizer does not load ({lines[0]})",
        where=folder,
        expected=f"{file} of a model that transformers knows",
        cure="copy the complete folder again; "
        f"python -m training convert {folder} OUT writes a missing tokenizer.json",
    )


def _require_rows(config: Any, tokenizer: Any, folder: Path) -> None:
    """Require an embedding row for every token that the tokenizer adds to a row."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    for name in _NAMED:
        token_id = getattr(tokenizer, f"{name}_id")
        if rows is not None and token_id is not None and token_id >= rows:
            token = getattr(tokenizer, name)
            raise CheckpointError(
                f"the tokenizer's {name} {token!r} is number {token_id}, but the embedding has {rows:,} rows",
                where=folder,
                expected="a tokenizer that belongs to these weights",
                cure=f"set {name} to a token that the model knows in tokenizer_config.json (and in "
                f"special_tokens_map.json), such as {_known(tokenizer, rows)!r}",
            )


def _known(tokenizer: Any, rows: int) -> str:
    """A named token that has a row in the embedding."""
    for name in ("eos_token", "unk_token", "bos_token"):
        token_id = getattr(tokenizer, f"{name}_id")
        if token_id is not None and token_id < rows:
            return str(getattr(tokenizer, name))
    return "</s>"


def _start(config: Any, folder: Path) -> int:
    """The token that a decoder starts with."""
    token_id = getattr(config, "decoder_start_token_id", None)
    if token_id is None and config.model_type in _FROM_PADDING:
        token_id = getattr(config, "pad_token_id", None)
    if token_id is None:
        raise CheckpointError(
            "config.json does not say which token the decoder starts with",
            where=folder / "config.json",
            expected='"decoder_start_token_id": the number of a token',
            cure="use the config.json that the model was published with, or add the line",
        )
    return int(token_id)


def max_positions(config: Any) -> int | None:
    """The longest input a backbone has positions for; ``None`` if they are relative."""
    # RoBERTa's positions start after the padding index.
    spare = (config.pad_token_id or 0) + 1 if config.model_type in _AFTER_PADDING else 0
    limit = getattr(config, "max_position_embeddings", None)
    relative = getattr(config, "position_biased_input", True) is False
    return None if limit is None or relative else int(limit) - spare
