"""sentence-transformers' cross-encoder under one set of names; before release 5.4 it had others.

Everything that differs stands here, found out by what the class has and not by its version: there the
tokenizer held the longest input, the model was called on its own, prompts and heads other than those of
sequence classification did not exist, and no folder declared them.
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

# A bar for what takes a tenth of a second, on a log too.
transformers_logging.disable_progress_bar()

__all__ = ["HEADS", "PairModel", "load", "longest", "read", "save", "shorten"]

_NEW = hasattr(PairModel, "preprocess")
# Every other architecture would be given a new head of random weights, and score noise.
HEADS = ("ForSequenceClassification", "ForCausalLM") if _NEW else ("ForSequenceClassification",)
_UPGRADE = "pip install --upgrade 'sentence-transformers>=5.4'"


def load(folder: Path, **options: Any) -> PairModel:
    """The model of a folder; safetensors only, no code of the folder is run, no network is used.

    Raises
    ------
    CheckpointError : no such model, or one whose scores this release would get wrong.
    """
    if not _NEW:
        options |= _declared(folder)
    weights = {"use_safetensors": True, **options.pop("model_kwargs", {})}
    try:
        model = PairModel(
            str(folder), local_files_only=True, trust_remote_code=False, model_kwargs=weights, **options
        )
        if model.num_labels is None:
            raise ValueError("it does not say how many scores it gives")
        return model
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise CheckpointError(
            f"this folder does not load as a cross-encoder ({str(error).splitlines()[0]})", where=folder
        ) from error


def _declared(folder: Path) -> dict[str, Any]:
    """What a newer release has written beside the model and an older one does not read."""
    file = folder / "config_sentence_transformers.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if found.get("model_type") != "CrossEncoder":
        # An encoder, which is to be given a new head, or a folder of this release or an older one.
        return {}
    prompt = (found.get("prompts") or {}).get(found.get("default_prompt_name") or "")
    modules = folder / "modules.json"
    plain = not modules.is_file() or len(json.loads(modules.read_text(encoding="utf-8"))) == 1
    if prompt or not plain:
        raise CheckpointError(
            "the installed sentence-transformers is too old for this model: it would leave out "
            + ("its prompt" if prompt else "its last modules"),
            where=folder,
            cure=_UPGRADE,
        )
    package, _, name = str(found.get("activation_fn", "")).rpartition(".")
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
    """Tokens of the longest pair that is read whole."""
    found = model.max_seq_length if _NEW else model.max_length
    return int(found) if found else None


def shorten(model: PairModel, tokens: int) -> None:
    """Read pairs to this many tokens."""
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
