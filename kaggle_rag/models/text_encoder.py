"""The model that reads texts token by token: an encoder, or that of an encoder-decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from kaggle_rag.models.description import FAULTS
from kaggle_rag.runtime.errors import CheckpointError


def load_text_encoder(folder: Path) -> Any:
    """Load a checkpoint's encoder in float32; raise ``CheckpointError`` if it does not load."""
    try:
        model = transformers.AutoModel.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True,
            dtype=torch.float32,
        )  # fmt: skip
    except FAULTS as error:
        raise CheckpointError(
            f"this folder does not load as a model ({str(error).splitlines()[0]})", where=folder,
            expected="a model of texts that transformers reads, such as all-MiniLM-L6-v2",
        ) from error  # fmt: skip
    return encoder_of(model)


def encoder_of(model: Any) -> Any:
    """The part of a model that reads texts."""
    return model.get_encoder() if model.config.is_encoder_decoder else model
