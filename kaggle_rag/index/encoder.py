"""Texts to unit vectors by any sentence-transformers model, batched by tokens instead of rows."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaggle_rag.index.batches import batches
from kaggle_rag.index.manifest import EncoderCard
from kaggle_rag.index.precision import LEAST_COSINE, PROBES, half_for, is_faster, reduced
from kaggle_rag.index.vectors import Vectors
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, resolve
from kaggle_rag.models.devices import AUTO, device_of, require_precision
from kaggle_rag.models.prompts import Prompts, prompts_of
from kaggle_rag.models.sentence_bert import sentence_bert
from kaggle_rag.runtime.errors import ArtifactError, CheckpointError, ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Tokens in one forward pass: what fits in a core's cache is fastest on a CPU (benchmarks/encode.py),
# a GPU wants all its units busy.
_CPU_TOKENS = 512
_GPU_TOKENS = 32_768


def _dimension(model: SentenceTransformer) -> int:
    # The longer name is that of sentence-transformers before 5.4.
    getter = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    return int(getter() or 0)


class Encoder:
    """A sentence-transformers model that returns L2-normalised float32 vectors.

    On unit vectors the squared L2 distance is ``2 - 2 cos``, so an L2 index ranks as cosine does.

    Parameters
    ----------
    name : folder or hub name, resolved by `kaggle_rag.models.checkpoints.resolve`.
    device : ``"cuda"``, ``"cpu"``; by default CUDA if available.
    window : longest text in tokens that must be read whole, not counting its prompt and special tokens
        (default: the model's own longest input).
    online : allow a download.
    card : the card of an index, whose prompts, length and precision are reused.
    precision : a key of `kaggle_rag.models.devices.PRECISIONS`, which the vectors of an index are
        computed in; ``"auto"`` picks a half precision if it agrees with float32 on a few probes and,
        on a CPU, encodes them faster than float32 does.
    untrained : also accept a backbone of another task, to train an encoder from.

    Attributes
    ----------
    prompts : what queries and passages begin with, and the source of that; for an index, its card.
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
        require_precision(precision, "precision")
        checkpoint = resolve(name, online=online)
        self.device = device_of(device)
        self._folder, self._length = checkpoint.path, card.max_tokens if card else None
        # An index is queried with what it was built with.
        self._untrained = untrained or card is not None
        self._reduced: SentenceTransformer | None = None
        # Queries to an index need no more than this; the whole library is loaded only when needed.
        needs_library = card is None or not card.max_tokens
        self._plain = None if needs_library else sentence_bert(checkpoint.path, self.device)
        if card:
            self.card, self.prompts = card, Prompts(card.query_prompt, card.passage_prompt, "of the index")
            if self._plain is None:
                _ = self.model
            return
        own = self.model.prompts, self.model.default_prompt_name
        self.prompts = prompts_of(*own, (name, str(checkpoint.path)))
        self.card = self._describe(name, checkpoint.sha256, window)
        self._require_vectors()
        chosen = self._best_precision() if precision == AUTO else precision
        self.card = dataclasses.replace(self.card, precision=chosen)

    @functools.cached_property
    def model(self) -> SentenceTransformer:
        """The sentence-transformers model, loaded on first use."""
        from kaggle_rag.models.sentence_model import is_static, sentence_model

        model = sentence_model(self._folder, self.device, untrained=self._untrained)
        if self._length and not is_static(model):
            model.max_seq_length = self._length
        return model

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The model's fast tokenizer, called as those of transformers are."""
        if self._plain:
            return self._plain.tokenizer
        from kaggle_rag.models.sentence_model import tokenizer_of

        return tokenizer_of(self.model)

    @property
    def _static(self) -> bool:
        from kaggle_rag.models.sentence_model import is_static

        return is_static(self.model)

    @classmethod
    def of_index(cls, card: EncoderCard, *, name: str | None = None, device: str | None = None) -> Encoder:
        """The encoder an index was built with, from ``card`` or from another location (``name``).

        Raises
        ------
        ArtifactError : the weights found are not those of the index.
        """
        checkpoint = resolve(name or card.name)
        if checkpoint.sha256 != card.sha256:
            raise ArtifactError(
                f"the index was built with another encoder than {checkpoint.name!r}",
                expected=f"{card.name!r} with weights sha256 {card.sha256[:16]}..., "
                f"found {checkpoint.sha256[:16]}...",
                cure="pass the encoder of the index with --encoder, or rebuild the index",
            )
        return cls(str(checkpoint.path), device=device, card=card)

    def encode_queries(
        self, texts: Sequence[str], *, on_rows: Callable[[int], object] | None = None
    ) -> Vectors:
        """Vectors of questions, ``(n, d)`` float32, each of length 1.

        ``on_rows`` receives the number of texts in each finished batch (a progress bar's ``update``).
        """
        return self._encode(texts, on_rows, prompt=self.card.query_prompt)

    def encode_passages(
        self, texts: Sequence[str], *, on_rows: Callable[[int], object] | None = None
    ) -> Vectors:
        """Vectors of passages, ``(n, d)`` float32, each of length 1."""
        return self._encode(texts, on_rows, prompt=self.card.passage_prompt)

    def encode_for_index(
        self, texts: Sequence[str], *, on_rows: Callable[[int], object] | None = None
    ) -> Vectors:
        """What `encode_passages` returns, computed in the precision of the card.

        Only an index is large enough to gain by it. Later queries, maybe on a machine where that
        precision is slow, are always computed in float32.
        """
        if self.card.precision != "fp32" and self._reduced is None:
            self._reduced = reduced(self.model, self.card.precision)
        return self._encode(texts, on_rows, self._reduced or self.model, prompt=self.card.passage_prompt)

    def count_tokens(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Length of each text in tokens of this encoder, without special ones, ``(n,)`` int64."""
        if not texts:
            return np.zeros(0, dtype=np.int64)
        encoded = self.tokenizer(
            list(texts), add_special_tokens=False, truncation=False, verbose=False,
            return_attention_mask=False,
        )  # fmt: skip
        return np.array([len(ids) for ids in encoded["input_ids"]], dtype=np.int64)

    def _describe(self, name: str, sha256: str, window: int | None) -> EncoderCard:
        if window and not self._static:
            self._lengthen(window, self.prompts.passage)
        return EncoderCard(
            name=name,
            sha256=sha256,
            dim=_dimension(self.model),
            max_tokens=0 if self._static else int(self.model.max_seq_length or 0),
            query_prompt=self.prompts.query,
            passage_prompt=self.prompts.passage,
        )

    def _require_vectors(self) -> None:
        """Raise if the model has no vector per text, such as one without pooling; print a note on means."""
        from kaggle_rag.models.sentence_model import means_are_taken

        try:
            vectors = self._encode(PROBES[:1], None)
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                "this model gives no single vector per text: it declares no pooling",
                where=self._folder,
                expected="a sentence encoder, whose modules.json ends in a pooling",
            ) from error
        if not np.isfinite(vectors).all():
            raise CheckpointError("this model's vectors are not numbers", where=self._folder)
        if note := means_are_taken(self._folder):
            print(f"note: {note}", file=sys.stderr)

    def _lengthen(self, window: int, prompt: str) -> None:
        from kaggle_rag.models.description import max_positions

        extra = len(self.tokenizer(prompt)["input_ids"])
        limit = max_positions(self.model[0].auto_model.config) or window + extra
        if window + extra > limit:
            raise ConfigError(
                f"the encoder reads at most {limit} tokens; {window} and {extra} extra ones were requested",
                where="--unit",
                cure=f"use windows of {window + extra - limit} fewer tokens, or a longer encoder",
            )
        # Shorter windows do not cut queries.
        self.model.max_seq_length = max(window + extra, int(self.model.max_seq_length or 0))

    def _best_precision(self) -> str:
        """The best precision here for the vectors of an index: decided once, and stored in its card."""
        half = half_for(self.device)
        # A mean of rows of a table is not a matrix product: it gains nothing from fewer digits.
        if half == "fp32" or self._static:
            return "fp32"
        self._reduced = reduced(self.model, half)
        # A format that is no faster is not worth the digits it loses, however few.
        if self._agreement() >= LEAST_COSINE and (half == "fp16" or self._half_is_faster()):
            return half
        self._reduced = None
        return "fp32"

    def _half_is_faster(self) -> bool:
        return is_faster(
            lambda: self._encode(PROBES, None), lambda: self._encode(PROBES, None, self._reduced)
        )

    def _agreement(self) -> float:
        """Lowest cosine of half-precision vectors to float32's, over the probes; -1 for NaN."""
        cosines = (self._encode(PROBES, None, self._reduced) * self._encode(PROBES, None)).sum(axis=1)
        return float(np.nan_to_num(cosines, nan=-1).min())

    def _left_out(self, prompt: str) -> int:
        """The tokens of a prompt that the pooling leaves out; our own BERT has no such pooling."""
        if not prompt or self._plain:
            return 0
        from kaggle_rag.models.sentence_model import left_out_tokens

        # In half precision a model has the same modules.
        return left_out_tokens(self.model, prompt)

    def _encode(
        self,
        texts: Sequence[str],
        on_rows: Callable[[int], object] | None,
        model: SentenceTransformer | None = None,
        *,
        prompt: str = "",
    ) -> Vectors:
        import torch

        texts = [prompt + text for text in texts]
        left_out = self._left_out(prompt)
        out = np.empty((len(texts), self.card.dim), dtype=np.float32)
        model = model or self._plain or self.model
        budget = _GPU_TOKENS if self.device.startswith("cuda") else _CPU_TOKENS
        prepared = batches(texts, self.tokenizer, longest=self.card.max_tokens or None, budget=budget)
        with contextlib.closing(prepared):
            for rows, features in prepared:
                on_device: dict[str, Any] = {key: value.to(self.device) for key, value in features.items()}
                if left_out:
                    on_device["prompt_length"] = left_out
                with torch.inference_mode():
                    vectors = model.forward(on_device)["sentence_embedding"]
                    vectors = torch.nn.functional.normalize(vectors.float(), dim=1)
                out[rows] = vectors.cpu().numpy()
                if on_rows:
                    on_rows(len(rows))
        return out
