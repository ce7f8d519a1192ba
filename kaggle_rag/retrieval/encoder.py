"""Texts to unit vectors by any sentence-transformers model, batched by tokens instead of rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from kaggle_rag.artifacts import EncoderCard
from kaggle_rag.errors import ArtifactError, CheckpointError, ConfigError
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, resolve
from kaggle_rag.models.devices import device_of
from kaggle_rag.retrieval.vectors import Vectors

# One bar for the loading of six small layers is noise between our own.
transformers_logging.disable_progress_bar()

# Tokens in one forward pass: what fits a core's cache is fastest on a CPU (benchmarks/encode.py),
# a GPU wants all its units busy.
_CPU_TOKENS = 512
_GPU_TOKENS = 32_768
# Texts tokenized and sorted by length at once; also bounds the memory of token ids.
_WINDOW = 16_384

# Models trained with a prefix that their folder does not declare, by a part of the name.
# Sources: the model cards of intfloat/e5-* and BAAI/bge-*-en-v1.5.
_PROMPTS = {
    "e5-": ("query: ", "passage: "),
    "bge-": ("Represent this sentence for searching relevant passages: ", ""),
}


_SURROGATE = re.compile("[\ud800-\udfff]")


def without_surrogates(text: str) -> str:
    """Half a surrogate pair (broken JSON) is no text for a tokenizer."""
    return _SURROGATE.sub("\ufffd", text)


def _dimension(model: SentenceTransformer) -> int:
    # The longer name is that of sentence-transformers before 5.4.
    ask = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    return int(ask() or 0)


class Encoder:
    """A sentence-transformers model that gives L2-normalised float32 vectors.

    On unit vectors the squared L2 distance is ``2 - 2 cos``, so an L2 index ranks as cosine does.

    Parameters
    ----------
    name : folder or hub name, resolved by `kaggle_rag.models.checkpoints.resolve`.
    device : ``"cuda"``, ``"cpu"``; by default CUDA where there is one.
    window : longest text in tokens that must be read whole, its prompt and the special tokens beside
        it (default: the model's own longest input).
    online : allow a download.
    card : the card of an index, whose prompts and length are to be used again.
    """

    def __init__(
        self,
        name: str = DEFAULT_ENCODER,
        *,
        device: str | None = None,
        window: int | None = None,
        online: bool = False,
        card: EncoderCard | None = None,
    ) -> None:
        checkpoint = resolve(name, online=online)
        self.device = device_of(device)
        try:
            self.model = SentenceTransformer(str(checkpoint.path), device=self.device, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                f"this folder does not load as an encoder ({str(error).splitlines()[0]})",
                where=checkpoint.path,
                expected="a sentence-transformers model, or an encoder that mean pooling suits",
            ) from error
        self.model.eval()
        query, passage = self._prompts(name)
        if card:
            self.model.max_seq_length = card.max_tokens
        elif window:
            self._lengthen(window, passage)
        self.card = card or EncoderCard(
            name=name,
            sha256=checkpoint.sha256,
            dim=_dimension(self.model),
            max_tokens=int(self.model.max_seq_length or 0),
            query_prompt=query,
            passage_prompt=passage,
        )

    @classmethod
    def of_index(cls, card: EncoderCard, *, name: str | None = None, device: str | None = None) -> Encoder:
        """The encoder an index was built with, from ``card`` or from another place (``name``).

        Raises
        ------
        ArtifactError : the weights found are not those of the index.
        """
        found = resolve(name or card.name)
        if found.sha256 != card.sha256:
            raise ArtifactError(
                f"the index was built by another encoder than {found.name!r}",
                expected=f"{card.name!r} with weights sha256 {card.sha256[:16]}..., "
                f"found {found.sha256[:16]}...",
                cure="give the encoder of the index by --encoder, or build the index again",
            )
        return cls(str(found.path), device=device, card=card)

    def encode_queries(
        self, texts: Sequence[str], *, on_rows: Callable[[int], object] | None = None
    ) -> Vectors:
        """Vectors of questions, ``(n, d)`` float32, each of length 1.

        ``on_rows`` hears how many texts each finished batch held (a progress bar's ``update``).
        """
        return self._encode([self.card.query_prompt + text for text in texts], on_rows)

    def encode_passages(
        self, texts: Sequence[str], *, on_rows: Callable[[int], object] | None = None
    ) -> Vectors:
        """Vectors of passages, ``(n, d)`` float32, each of length 1."""
        return self._encode([self.card.passage_prompt + text for text in texts], on_rows)

    def count_tokens(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Length of each text in tokens of this encoder, without special ones, ``(n,)`` int64."""
        if not texts:
            return np.zeros(0, dtype=np.int64)
        found = self.model.tokenizer(
            list(texts), add_special_tokens=False, truncation=False, verbose=False,
            return_attention_mask=False,
        )  # fmt: skip
        return np.array([len(ids) for ids in found["input_ids"]], dtype=np.int64)

    def _lengthen(self, window: int, prompt: str) -> None:
        beside = len(self.model.tokenizer(prompt)["input_ids"])
        limit = getattr(self.model[0].auto_model.config, "max_position_embeddings", window + beside)
        if window + beside > limit:
            raise ConfigError(
                f"the encoder reads {limit} tokens at most; {window} and {beside} beside them were asked for",
                where="--unit",
                cure=f"take windows of {window + beside - limit} tokens less, or a longer encoder",
            )
        self.model.max_seq_length = window + beside

    def _prompts(self, name: str) -> tuple[str, str]:
        """Query and passage prompt: the model's own where it declares them, else by its family."""
        own = self.model.prompts
        query, passage = own.get("query", ""), own.get("document", "") or own.get("passage", "")
        if query or passage:
            return query, passage
        short = name.rstrip("/").rsplit("/", 1)[-1].lower()
        return next((pair for part, pair in _PROMPTS.items() if f"-{part}" in f"-{short}"), ("", ""))

    def _encode(self, texts: Sequence[str], on_rows: Callable[[int], object] | None) -> Vectors:
        out = np.empty((len(texts), self.card.dim), dtype=np.float32)
        for rows, features in self._batches(texts):
            with torch.inference_mode():
                vectors = self.model.forward(features)["sentence_embedding"]
                vectors = torch.nn.functional.normalize(vectors.float(), dim=1)
            out[rows] = vectors.cpu().numpy()
            if on_rows:
                on_rows(len(rows))
        return out

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[npt.NDArray[np.int64], Any]]:
        """Batches of texts of like length, the longest first, of at most so many padded tokens."""
        budget = _GPU_TOKENS if self.device.startswith("cuda") else _CPU_TOKENS
        for start in range(0, len(texts), _WINDOW):
            ids = self.model.tokenizer(
                [without_surrogates(text) for text in texts[start : start + _WINDOW]],
                truncation=True,
                max_length=self.card.max_tokens or None,
                return_attention_mask=False,
            )["input_ids"]
            lengths = np.array([len(row) for row in ids])
            order = np.argsort(-lengths, kind="stable")
            begin = 0
            while begin < len(order):
                rows = order[begin : begin + max(1, budget // max(1, int(lengths[order[begin]])))]
                begin += len(rows)
                padded = self.model.tokenizer.pad(
                    {"input_ids": [ids[row] for row in rows]}, return_tensors="pt"
                )
                yield start + rows, {key: value.to(self.device) for key, value in padded.items()}
