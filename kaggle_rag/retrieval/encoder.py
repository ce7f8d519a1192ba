"""Texts to unit vectors by any sentence-transformers model, batched by tokens instead of rows."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaggle_rag.artifacts import EncoderCard
from kaggle_rag.errors import ArtifactError, CheckpointError, ConfigError
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, resolve
from kaggle_rag.models.devices import PRECISIONS, device_of
from kaggle_rag.models.sentence_bert import sentence_bert
from kaggle_rag.retrieval.batches import batches
from kaggle_rag.retrieval.precision import LEAST_COSINE, PROBES, half_for, is_faster, reduced
from kaggle_rag.retrieval.vectors import Vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Tokens in one forward pass: what fits a core's cache is fastest on a CPU (benchmarks/encode.py),
# a GPU wants all its units busy.
_CPU_TOKENS = 512
_GPU_TOKENS = 32_768

# Models trained with a prefix that their folder does not declare, by a part of the name.
# Sources: the model cards of intfloat/e5-* and BAAI/bge-*-en-v1.5.
_PROMPTS = {
    "e5-": ("query: ", "passage: "),
    "bge-": ("Represent this sentence for searching relevant passages: ", ""),
}


def _dimension(model: SentenceTransformer) -> int:
    # The longer name is that of sentence-transformers before 5.4.
    ask = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    return int(ask() or 0)


def _loaded(folder: Path, device: str) -> SentenceTransformer:
    """The model of a folder, ready to read; raise ``CheckpointError`` where it does not load."""
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    # One bar for the loading of six small layers is noise between our own.
    transformers_logging.disable_progress_bar()
    try:
        made = SentenceTransformer(str(folder), device=device, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"this folder does not load as an encoder ({str(error).splitlines()[0]})",
            where=folder,
            expected="a sentence-transformers model, or an encoder that mean pooling suits",
        ) from error
    return made.eval()


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
    card : the card of an index, whose prompts, length and precision are to be used again.
    precision : a key of `kaggle_rag.models.devices.PRECISIONS`, which the vectors of an index are
        computed in; ``"auto"`` takes a half precision that agrees with float32 on a few probes and,
        on a CPU, reads them faster than float32 does.
    """

    def __init__(
        self,
        name: str = DEFAULT_ENCODER,
        *,
        device: str | None = None,
        window: int | None = None,
        online: bool = False,
        card: EncoderCard | None = None,
        precision: str = "fp32",
    ) -> None:
        if precision not in ("auto", *PRECISIONS):
            raise ConfigError(
                f"no precision {precision!r}", where="precision", expected="auto, " + ", ".join(PRECISIONS)
            )
        checkpoint = resolve(name, online=online)
        self.device = device_of(device)
        self._folder, self._length = checkpoint.path, card.max_tokens if card else None
        self._reduced: SentenceTransformer | None = None
        # What an index is asked needs no more than this; the whole library is loaded when it is needed.
        whole = card is None or not card.max_tokens
        self._plain = None if whole else sentence_bert(checkpoint.path, self.device)
        if card is None:
            card = self._described(name, checkpoint.sha256, window)
            chosen = self._suiting(card) if precision == "auto" else precision
            card = dataclasses.replace(card, precision=chosen)
        elif self._plain is None:
            _ = self.model
        self.card = card

    @functools.cached_property
    def model(self) -> SentenceTransformer:
        """The model by sentence-transformers, loaded when it is first asked for."""
        made = _loaded(self._folder, self.device)
        if self._length:
            made.max_seq_length = self._length
        return made

    @property
    def _asked(self) -> Any:
        return self._plain or self.model

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

    def encode_for_index(
        self, texts: Sequence[str], *, on_rows: Callable[[int], object] | None = None
    ) -> Vectors:
        """What `encode_passages` gives, computed in the precision of the card.

        Only an index is large enough to gain by it. What is asked of one later, maybe on a machine to
        which that precision is slow, is always computed in float32.
        """
        if self.card.precision != "fp32" and self._reduced is None:
            self._reduced = reduced(self.model, self.card.precision)
        prompted = [self.card.passage_prompt + text for text in texts]
        return self._encode(prompted, on_rows, self._reduced or self.model)

    def count_tokens(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Length of each text in tokens of this encoder, without special ones, ``(n,)`` int64."""
        if not texts:
            return np.zeros(0, dtype=np.int64)
        found = self._asked.tokenizer(
            list(texts), add_special_tokens=False, truncation=False, verbose=False,
            return_attention_mask=False,
        )  # fmt: skip
        return np.array([len(ids) for ids in found["input_ids"]], dtype=np.int64)

    def _described(self, name: str, sha256: str, window: int | None) -> EncoderCard:
        query, passage = self._prompts(name)
        if window:
            self._lengthen(window, passage)
        return EncoderCard(
            name=name,
            sha256=sha256,
            dim=_dimension(self.model),
            max_tokens=int(self.model.max_seq_length or 0),
            query_prompt=query,
            passage_prompt=passage,
        )

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

    def _suiting(self, card: EncoderCard) -> str:
        """What the vectors of an index are best computed in here: decided once, and kept by its card."""
        half = half_for(self.device)
        if half == "fp32":
            return half
        self.card, self._reduced = card, reduced(self.model, half)
        # A format that is no faster is not worth the digits it loses, however few.
        if self._agreement() >= LEAST_COSINE and (half == "fp16" or self._quickens()):
            return half
        self._reduced = None
        return "fp32"

    def _quickens(self) -> bool:
        return is_faster(
            lambda: self._encode(PROBES, None), lambda: self._encode(PROBES, None, self._reduced)
        )

    def _agreement(self) -> float:
        """Least cosine of vectors in half precision to float32's, over the probes; -1 for no numbers."""
        cosines = (self._encode(PROBES, None, self._reduced) * self._encode(PROBES, None)).sum(axis=1)
        return float(np.nan_to_num(cosines, nan=-1).min())

    def _encode(
        self,
        texts: Sequence[str],
        on_rows: Callable[[int], object] | None,
        model: SentenceTransformer | None = None,
    ) -> Vectors:
        import torch

        out = np.empty((len(texts), self.card.dim), dtype=np.float32)
        model = model or self._asked
        budget = _GPU_TOKENS if self.device.startswith("cuda") else _CPU_TOKENS
        made = batches(texts, model.tokenizer, longest=self.card.max_tokens or None, budget=budget)
        with contextlib.closing(made):
            for rows, features in made:
                on_device = {key: value.to(self.device) for key, value in features.items()}
                with torch.inference_mode():
                    vectors = model.forward(on_device)["sentence_embedding"]
                    vectors = torch.nn.functional.normalize(vectors.float(), dim=1)
                out[rows] = vectors.cpu().numpy()
                if on_rows:
                    on_rows(len(rows))
        return out
