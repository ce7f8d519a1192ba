"""The vectors of a text's tokens in a layer of a model, for comparing texts token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from kaggle_rag.models.answering.base import TOKENS, by_length
from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.models.description import described, max_positions
from kaggle_rag.models.devices import device_of
from kaggle_rag.models.text_encoder import load_text_encoder
from kaggle_rag.models.writer import special_ids
from kaggle_rag.runtime.errors import ConfigError

# Of a model whose positions are relative.
_LONGEST = 512


class TokenVectors(NamedTuple):
    """``ids`` of a text's tokens, without special ones, and their unit vectors, ``(tokens, d)`` float32."""

    ids: list[int]
    vectors: npt.NDArray[np.float32]


class TokenEncoder:
    """Reads texts with a model, of an encoder-decoder with its encoder.

    Parameters
    ----------
    name : folder or hub name, resolved by `kaggle_rag.models.checkpoints.resolve`.
    layer : whose output is taken; 0: the embeddings, ``None``: the last.
    device : ``"cuda"``, ``"cpu"``; by default CUDA if available.

    Attributes
    ----------
    shortened : how many texts were longer than the model, and lost their ends.

    Raises
    ------
    CheckpointError : nothing found, or it does not load.
    ConfigError : the model has no such layer.
    """

    def __init__(self, name: str, layer: int | None = None, device: str | None = None) -> None:
        folder = resolve(name).path
        config, self._tokenizer = described(folder)
        layers = config.get_text_config().num_hidden_layers
        if layer is not None and not 0 <= layer <= layers:
            raise ConfigError(
                f"no layer {layer}", where="--layer", expected=f"0 (the embeddings) to {layers} (the last)"
            )
        self.layer = layers if layer is None else layer
        self._cut: set[str] = set()
        self._device = device_of(device)
        self._longest = max_positions(config) or _LONGEST
        self._special = special_ids(self._tokenizer) | {self._tokenizer.pad_token_id}
        self._model = load_text_encoder(folder).to(self._device).eval()

    @property
    def shortened(self) -> int:
        """How many different texts were longer than the model, and lost their ends."""
        return len(self._cut)

    def __call__(self, texts: Sequence[str]) -> list[TokenVectors]:
        """The tokens of each text, in order; a text of nothing but special tokens has none."""
        rows = [self._tokens(text) for text in texts]
        found: list[TokenVectors] = [TokenVectors([], np.zeros((0, 0), np.float32))] * len(texts)
        asked = [place for place, ids in enumerate(rows) if set(ids) - self._special]
        sizes = [(1, len(rows[place])) for place in asked]
        for chosen in by_length(sizes, TOKENS[self._device.split(":")[0]]) if sizes else ():
            places = [asked[one] for one in chosen]
            hidden = self._hidden([rows[place] for place in places])
            for place, vectors in zip(places, hidden):
                kept = [at for at, token in enumerate(rows[place]) if token not in self._special]
                found[place] = TokenVectors([rows[place][at] for at in kept], vectors[kept])
        return found

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text that have vectors."""
        return [token for token in self._tokens(text) if token not in self._special]

    def _tokens(self, text: str) -> list[int]:
        ids = list(self._tokenizer(text.strip(), verbose=False)["input_ids"])
        if len(ids) <= self._longest:
            return ids
        self._cut.add(text)
        options: dict[str, Any] = {"truncation": True, "max_length": self._longest}
        return list(self._tokenizer(text.strip(), **options)["input_ids"])

    def _hidden(self, rows: Sequence[list[int]]) -> list[npt.NDArray[np.float32]]:
        """The unit vectors of all tokens of each row, padded on the right."""
        length = max(map(len, rows))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows], device=self._device)
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=self._device)
        with torch.inference_mode():
            read = self._model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        vectors = torch.nn.functional.normalize(read.hidden_states[self.layer].float(), dim=2).cpu().numpy()
        return [vectors[number, : len(row)] for number, row in enumerate(rows)]
