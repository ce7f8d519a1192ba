"""Triplets whose negative is the nearest wrong passage of the batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# How much nearer the right passage has to be, as for the plain triplets.
MARGIN = 0.2


class BatchHardTriplet(nn.Module):  # type: ignore[misc]
    """The mean over questions of ``max(0, margin + d(q, p) - min d(q, n))``, for sentence-transformers.

    ``d`` is the cosine distance; ``n`` goes over all other passages of the batch, hard negatives too.
    Source: Hermans, Beyer & Leibe 2017, https://arxiv.org/abs/1703.07737, equation 5, with one positive.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None) -> Tensor:
        queries, *passages = (
            functional.normalize(self.model(features)["sentence_embedding"].float(), dim=1)
            for features in sentence_features
        )
        # Of each question the similarity to its own passage, then to those of the others.
        cosines = queries @ torch.cat(passages).T
        right = cosines.diagonal()
        own = torch.eye(*cosines.shape, dtype=torch.bool, device=cosines.device)
        nearest = cosines.masked_fill(own, -torch.inf).amax(1)
        return functional.relu(MARGIN + nearest - right).mean()
