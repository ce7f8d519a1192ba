"""Token vectors of question and passage compared one by one: a re-ranker that needs no training.

Source: Khattab & Zaharia 2020, ColBERT, https://arxiv.org/abs/2004.12832 (MaxSim), with any sentence encoder
in the place of theirs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from kaggle_rag.index.batches import batches
from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.models.devices import device_of
from kaggle_rag.models.prompts import prompts_of
from kaggle_rag.models.sentence_model import is_static, sentence_model, tokenizer_of
from kaggle_rag.runtime.errors import CheckpointError

Scores = npt.NDArray[np.float32]

# Tokens in one forward pass, as for the encoder.
_CPU_TOKENS = 512
_GPU_TOKENS = 32_768


class LateInteraction:
    """Scores a pair by how well each token of the question is matched by its best token of the passage.

    Parameters
    ----------
    name : a sentence encoder: folder or hub name, resolved by `kaggle_rag.models.checkpoints.resolve`.
    device : ``"cuda"``, ``"cpu"``; by default CUDA if available.

    Raises
    ------
    CheckpointError : nothing found, or an encoder whose tokens do not know each other.
    """

    def __init__(self, name: str, device: str | None = None) -> None:
        folder = resolve(name).path
        self.device = device_of(device)
        self.model = sentence_model(folder, self.device)
        if is_static(self.model):
            raise CheckpointError(
                "the tokens of a static encoder do not know each other", where=folder,
                expected="a sentence encoder with a transformer", cure="name another one, or a cross-encoder",
            )  # fmt: skip
        own = self.model.prompts, self.model.default_prompt_name
        self.prompts = prompts_of(*own, (name, str(folder)))
        self.tokenizer = tokenizer_of(self.model)

    def scores(
        self,
        pairs_query: Sequence[str],
        pairs_passage: Sequence[str],
        on_rows: Callable[[int], object] | None = None,
    ) -> Scores:
        """The score of each pair, ``(n,)`` float32: the mean over the query's tokens of the largest cosine.

        Parameters
        ----------
        on_rows : gets the number of texts in each finished batch.
        """
        if len(pairs_query) != len(pairs_passage):
            raise ValueError(f"{len(pairs_query)} queries for {len(pairs_passage)} passages")
        queries, passages = dict.fromkeys(pairs_query), dict.fromkeys(pairs_passage)
        asked = dict(zip(queries, self._tokens([self.prompts.query + text for text in queries], on_rows)))
        there = dict(zip(passages, self._tokens([self.prompts.passage + text for text in passages], on_rows)))
        return np.array(
            [float(_max_sim(asked[q], there[p])) for q, p in zip(pairs_query, pairs_passage)], np.float32
        )

    def _tokens(self, texts: Sequence[str], on_rows: Callable[[int], object] | None) -> list[torch.Tensor]:
        """Unit vectors of the tokens of each text, ``(tokens, d)`` float32, without special ones."""
        found: list[torch.Tensor] = [torch.empty(0)] * len(texts)
        budget = _GPU_TOKENS if self.device.startswith("cuda") else _CPU_TOKENS
        special = torch.tensor(self.model.tokenizer.all_special_ids, device=self.device)
        prepared = batches(texts, self.tokenizer, longest=self.model.max_seq_length, budget=budget)
        with contextlib.closing(prepared):
            for rows, features in prepared:
                on_device = {key: value.to(self.device) for key, value in features.items()}
                read = on_device["attention_mask"].bool()
                plain = read & ~torch.isin(on_device["input_ids"], special)
                with torch.inference_mode():
                    vectors = self.model.forward(on_device)["token_embeddings"].float()
                    vectors = torch.nn.functional.normalize(vectors, dim=2)
                for row, own, whole, kept in zip(rows.tolist(), vectors, read, plain):
                    # A text of nothing but special tokens keeps them: it has to be comparable.
                    found[row] = own[kept if kept.any() else whole]
                if on_rows:
                    on_rows(len(rows))
        return found


def _max_sim(query: torch.Tensor, passage: torch.Tensor) -> torch.Tensor:
    """The mean over the tokens of a query of their largest cosine with a token of the passage."""
    return (query @ passage.T).amax(1).mean()
