"""Question and passage read together: pair scores from any sentence-transformers cross-encoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from kaggle_rag.index.batches import of_like_length, without_surrogates
from kaggle_rag.models import pairmodel
from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.models.description import max_positions
from kaggle_rag.models.devices import device_of
from kaggle_rag.models.pairmodel import HEADS, PairModel
from kaggle_rag.models.sentence_model import literal
from kaggle_rag.runtime.errors import CheckpointError, ConfigError
from kaggle_rag.runtime.words import counted

Scores = npt.NDArray[np.float32]

# Tokens in one forward pass, as for the encoder: to fit a CPU core's cache, or to fill a GPU.
_CPU_TOKENS = 512
_GPU_TOKENS = 32_768
# Pairs tokenized and sorted by length at once; bounds the memory of token ids.
_WINDOW = 16_384


class CrossEncoder:
    """A model that reads a question and a passage together and returns one score, larger is better.

    Parameters
    ----------
    name : folder or hub name, resolved by `kaggle_rag.models.checkpoints.resolve`; safetensors only,
        without running the folder's code.
    device : ``"cuda"``, ``"cpu"``; by default CUDA if available. On CUDA it computes in float16.
    max_tokens : longest pair, in tokens (default: the model's own maximum).

    Raises
    ------
    CheckpointError : nothing found, no head that scores pairs, or more than one score per pair.
    ConfigError : more tokens than the model has positions.
    """

    def __init__(self, name: str, device: str | None = None, max_tokens: int | None = None) -> None:
        folder = resolve(name).path
        self.device = device_of(device)
        _require_head(folder)
        half = self.device.startswith("cuda")
        self.model = _load(folder, self.device, torch.float16 if half else torch.float32)
        if max_tokens is not None:
            require_positions(self.model, max_tokens)
            pairmodel.shorten(self.model, max_tokens)
        self.model.eval()

    @classmethod
    def of_model(cls, model: PairModel) -> CrossEncoder:
        """Score with a model that is already in memory, such as one in training."""
        encoder = cls.__new__(cls)
        encoder.model, encoder.device = model, str(model.device)
        return encoder

    def scores(
        self,
        pairs_query: Sequence[str],
        pairs_passage: Sequence[str],
        on_rows: Callable[[int], object] | None = None,
    ) -> Scores:
        """The score of each pair, ``(n,)`` float32, as sentence-transformers' ``predict`` gives it.

        ``on_rows`` gets the number of pairs in each finished batch (a progress bar's ``update``).
        """
        if len(pairs_query) != len(pairs_passage):
            raise ValueError(f"{len(pairs_query)} queries for {len(pairs_passage)} passages")
        pairs = [[without_surrogates(text) for text in pair] for pair in zip(pairs_query, pairs_passage)]
        out = np.empty(len(pairs), dtype=np.float32)
        for rows in self._batches(pairs):
            with torch.inference_mode():
                scores = pairmodel.read(self.model, [pairs[row] for row in rows], self.device)
            out[rows] = scores.reshape(len(rows)).cpu().numpy()
            if on_rows:
                on_rows(len(rows))
        return out

    def _batches(self, pairs: Sequence[Sequence[str]]) -> Iterator[npt.NDArray[np.int64]]:
        """Rows of pairs of similar length, longest first, up to a budget of padded tokens."""
        budget = _GPU_TOKENS if self.device.startswith("cuda") else _CPU_TOKENS
        longest = pairmodel.longest(self.model) or budget
        for start in range(0, len(pairs), _WINDOW):
            ids = self.model.tokenizer(
                *map(list, zip(*pairs[start : start + _WINDOW])),
                truncation=True, max_length=longest, return_attention_mask=False,
            )["input_ids"]  # fmt: skip
            for rows in of_like_length([len(row) for row in ids], budget):
                yield start + rows


def has_head(folder: Path) -> bool:
    """Whether a model folder has a trained scoring head, according to its own files."""
    if (folder / "modules.json").is_file():
        # Folders of sentence-transformers: older ones do not declare a type, and are encoders.
        declared = folder / "config_sentence_transformers.json"
        settings = json.loads(declared.read_text(encoding="utf-8")) if declared.is_file() else {}
        return bool(settings.get("model_type") == "CrossEncoder")
    names = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    return any(name.endswith(HEADS) for name in names)


def _require_head(folder: Path) -> None:
    if has_head(folder):
        return
    raise CheckpointError(
        "this model has no trained head that scores a pair",
        where=folder,
        expected="a cross-encoder: a model saved with one score per pair",
        cure="train one from it: python -m training reranker --model " + str(folder),
    )


def _load(folder: Path, device: str, dtype: torch.dtype) -> PairModel:
    model = pairmodel.load(folder, device=device, model_kwargs={"dtype": dtype})
    count = model.num_labels
    literal(model.tokenizer)
    if count != 1:
        raise CheckpointError(
            f"this model returns {counted(count, 'score')} per pair", where=folder,
            expected="a re-ranker with one",
        )
    return model


def require_positions(model: PairModel, wanted: int) -> None:
    """Raise ``ConfigError`` for pairs that are longer than the model, or too short for two texts."""
    limit = max_positions(model.config)
    if wanted < 8 or (limit and wanted > limit):
        raise ConfigError(
            f"cannot read pairs of {wanted} tokens", expected=f"8 to {limit or 'any number of'} tokens"
        )
