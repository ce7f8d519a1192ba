"""sentence-transformers' cross-encoder under one set of names; before release 5.4 it had others.

All differences are handled here, detected by the attributes of the class and not by its version: in older
releases the tokenizer held the maximum length, the model was called directly, prompts and heads other than
those of sequence classification did not exist, and no folder declared them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder as PairModel
from transformers.utils import logging as transformers_logging

from kaggle_rag.runtime.errors import CheckpointError

# Its bar would show, even in a log, for a tenth of a second of work.
transformers_logging.disable_progress_bar()

__all__ = ["HEADS", "PairModel", "load", "longest", "read", "save", "shorten"]

_NEW = hasattr(PairModel, "preprocess")
# Any other architecture would get a new head of random weights, and score noise.
HEADS = ("ForSequenceClassification", "ForCausalLM") if _NEW else ("ForSequenceClassification",)
_UPGRADE = "pip install --upgrade 'sentence-transformers>=5.4'"


def load(folder: Path, **options: Any) -> PairModel:
    """The model of a folder: safetensors only, without running its code or using the network.

    Raises
    ------
    CheckpointError : no such model, or one that this release would score wrongly.
    """
    if not _NEW:
        options |= _declared(folder)
    weights = {"use_safetensors": True, **options.pop("model_kwargs", {})}
    try:
        model = PairModel(
            str(folder), local_files_only=True, trust_remote_code=False, model_kwargs=weights, **options
        )
        if model.num_labels is None:
            raise ValueError("it does not say how many scores it returns")
        return model
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise CheckpointError(
            f"this folder does not load as a cross-encoder ({str(error).splitlines()[0]})", where=folder
        ) from error


def _declared(folder: Path) -> dict[str, Any]:
    """Settings that a newer release wrote with the model and an older one does not read."""
    file = folder / "config_sentence_transformers.json"
    declared = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if declared.get("model_type") != "CrossEncoder":
        # An encoder, which will get a new head, or a folder of this release or an older one.
        return {}
    prompt = (declared.get("prompts") or {}).get(declared.get("default_prompt_name") or "")
    modules = folder / "modules.json"
    plain = not modules.is_file() or len(json.loads(modules.read_text(encoding="utf-8"))) == 1
    if prompt or not plain:
        raise CheckpointError(
            "the installed sentence-transformers is too old for this model: it would ignore "
            + ("its prompt" if prompt else "its last modules"),
            where=folder,
            cure=_UPGRADE,
        )
    package, _, name = str(declared.get("activation_fn", "")).rpartition(".")
    if package.startswith("torch.nn.modules") and hasattr(torch.nn, name):
        return {"activation_fn": getattr(torch.nn, name)()}
    return {}


def save(model: PairModel, folder: Path) -> None:
    """Weights, configuration and tokenizer, without a model card (it would ask the hub)."""
    if _NEW:
        model.save_pretrained(str(folder), create_model_card=False)
        return
    model.model.save_pretrained(str(folder))
    model.tokenizer.save_pretrained(str(folder))


def longest(model: PairModel) -> int | None:
    """The longest pair, in tokens, that is read without truncation."""
    tokens = model.max_seq_length if _NEW else model.max_length
    return int(tokens) if tokens else None


def shorten(model: PairModel, tokens: int) -> None:
    """Truncate pairs to this many tokens."""
    setattr(model, "max_seq_length" if _NEW else "max_length", tokens)


def read(model: PairModel, pairs: Sequence[Sequence[str]], device: str) -> torch.Tensor:
    """The scores of pairs in one forward pass, ``(n,)`` or ``(n, 1)`` float32 on ``device``."""
    if not _NEW:
        features = model.tokenizer(list(pairs), padding=True, truncation=True, return_tensors="pt")
        return model.activation_fn(model.model(**features.to(device), return_dict=True).logits.float())
    prompt = model.prompts.get(model.default_prompt_name or "")
    features = model.preprocess(list(pairs), prompt=prompt)
    features = {k: v.to(device) if hasattr(v, "to") else v for k, v in features.items()}
    return model.activation_fn(model(features)["scores"].float())
