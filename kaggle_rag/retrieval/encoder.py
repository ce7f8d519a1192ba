"""Texts to unit vectors by any sentence-transformers model, batched by tokens instead of rows."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from kaggle_rag.artifacts import EncoderCard
from kaggle_rag.errors import ArtifactError, CheckpointError, ConfigError
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, resolve
from kaggle_rag.models.devices import device_of
from kaggle_rag.models.prompts import Prompts, prompts_of
from kaggle_rag.retrieval.batches import batches
from kaggle_rag.retrieval.precision import LEAST_COSINE, PRECISIONS, PROBES, fastest, reduced
from kaggle_rag.retrieval.sentence_model import is_static, means_are_taken, sentence_model, tokenizer_of
from kaggle_rag.retrieval.vectors import Vectors

# One bar for the loading of six small layers is noise between our own.
transformers_logging.disable_progress_bar()

# Tokens in one forward pass: what fits a core's cache is fastest on a CPU (benchmarks/encode.py),
# a GPU wants all its units busy.
_CPU_TOKENS = 512
_GPU_TOKENS = 32_768


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
    card : the card of an index, whose prompts, length and precision are to be used again.
    precision : a key of `kaggle_rag.retrieval.precision.PRECISIONS`, which the vectors of an index are
        computed in; ``"auto"`` takes the device's fastest if it agrees with float32 on a few probes.
    untrained : take a backbone of another task too, as what an encoder is to be trained from.

    Attributes
    ----------
    prompts : what queries and passages begin with, and who decided it; of an index, its card.
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
        untrained: bool = False,
    ) -> None:
        if precision not in ("auto", *PRECISIONS):
            raise ConfigError(
                f"no precision {precision!r}", where="precision", expected="auto, " + ", ".join(PRECISIONS)
            )
        checkpoint = resolve(name, online=online)
        self.device = device_of(device)
        # What an index was built with is what it is asked with.
        self.model = sentence_model(checkpoint.path, self.device, untrained=untrained or card is not None)
        self.prompts = self._prompts(name, str(checkpoint.path), card)
        if card and not is_static(self.model):
            self.model.max_seq_length = card.max_tokens
        elif window and not is_static(self.model):
            self._lengthen(window, self.prompts.passage)
        self.card = card or EncoderCard(
            name=name,
            sha256=checkpoint.sha256,
            dim=_dimension(self.model),
            max_tokens=0 if is_static(self.model) else int(self.model.max_seq_length or 0),
            query_prompt=self.prompts.query,
            passage_prompt=self.prompts.passage,
            precision=self._fastest() if precision == "auto" else precision,
        )
        self._reduced: SentenceTransformer | None = None
        if card is None:
            self._require_vectors(checkpoint.path)
        if precision == "auto" and not card and self._agreement() < LEAST_COSINE:
            self.card, self._reduced = dataclasses.replace(self.card, precision="fp32"), None

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
        return self._encode([self.card.passage_prompt + text for text in texts], on_rows, self._reduced)

    def count_tokens(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Length of each text in tokens of this encoder, without special ones, ``(n,)`` int64."""
        if not texts:
            return np.zeros(0, dtype=np.int64)
        found = self.tokenizer(
            list(texts), add_special_tokens=False, truncation=False, verbose=False,
            return_attention_mask=False,
        )  # fmt: skip
        return np.array([len(ids) for ids in found["input_ids"]], dtype=np.int64)

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The model's fast tokenizer, called as those of transformers are."""
        return tokenizer_of(self.model)

    def _fastest(self) -> str:
        # A mean of rows of a table is no matrix product: it gains nothing by fewer digits.
        return "fp32" if is_static(self.model) else fastest(self.device)

    def _require_vectors(self, folder: Path) -> None:
        """Raise for a model that gives no vector of a text, such as one without a pooling; tell of means."""
        try:
            found = self._encode(PROBES[:1], None)
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                "this model gives no one vector of a text: it declares no pooling",
                where=folder,
                expected="a sentence encoder, whose modules.json ends in a pooling",
            ) from error
        if not np.isfinite(found).all():
            raise CheckpointError("this model's vectors are no numbers", where=folder)
        if note := means_are_taken(folder):
            print(f"note: {note}", file=sys.stderr)

    def _lengthen(self, window: int, prompt: str) -> None:
        beside = len(self.tokenizer(prompt)["input_ids"])
        limit = getattr(self.model[0].auto_model.config, "max_position_embeddings", window + beside)
        if window + beside > limit:
            raise ConfigError(
                f"the encoder reads {limit} tokens at most; {window} and {beside} beside them were asked for",
                where="--unit",
                cure=f"take windows of {window + beside - limit} tokens less, or a longer encoder",
            )
        self.model.max_seq_length = window + beside

    def _prompts(self, name: str, path: str, card: EncoderCard | None) -> Prompts:
        if card:
            return Prompts(card.query_prompt, card.passage_prompt, "of the index")
        return prompts_of(self.model.prompts, self.model.default_prompt_name, (name, path))

    def _agreement(self) -> float:
        """Least cosine between vectors for an index and float32's, over the probes; -1 for no numbers."""
        cosines = (self.encode_for_index(PROBES) * self.encode_passages(PROBES)).sum(axis=1)
        return float(np.nan_to_num(cosines, nan=-1).min())

    def _encode(
        self,
        texts: Sequence[str],
        on_rows: Callable[[int], object] | None,
        model: SentenceTransformer | None = None,
    ) -> Vectors:
        out = np.empty((len(texts), self.card.dim), dtype=np.float32)
        model = model or self.model
        budget = _GPU_TOKENS if self.device.startswith("cuda") else _CPU_TOKENS
        made = batches(texts, self.tokenizer, longest=self.card.max_tokens or None, budget=budget)
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
