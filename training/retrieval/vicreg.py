"""VICReg: pull a question and its passage together without letting dimensions collapse or copy another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# The paper's weights (section 4.2): of invariance, variance and covariance.
WEIGHTS = (25.0, 25.0, 1.0)
_EPSILON = 1e-4


def vicreg(left: Tensor, right: Tensor, weights: Sequence[float] = WEIGHTS) -> Tensor:
    """The loss for two batches of vectors, each ``(n, d)`` with n > 1, as a scalar.

    With the paper's weights ``25 s + 25 (v(left) + v(right)) + c(left) + c(right)``: the mean squared
    difference ``s``; ``v = mean_j max(0, 1 - sqrt(var_j + 1e-4))``; and ``c = sum_{i != j} cov_ij^2 / d``,
    variances and covariances over ``n - 1``. Source: Bardes, Ponce & LeCun 2022, https://arxiv.org/abs/2105.04906,
    algorithm 1 (whose ``s`` is the mean over ``n d``, where equation 5 has the mean over ``n``).
    """
    spread = _variance(left) + _variance(right)
    copies = _covariance(left) + _covariance(right)
    invariance, variance, covariance = weights
    return invariance * functional.mse_loss(left, right) + variance * spread + covariance * copies


def _variance(vectors: Tensor) -> Tensor:
    return functional.relu(1 - torch.sqrt(vectors.var(dim=0) + _EPSILON)).mean()


def _covariance(vectors: Tensor) -> Tensor:
    centred = vectors - vectors.mean(dim=0)
    table = centred.T @ centred / (len(vectors) - 1)
    return (table.square().sum() - table.diagonal().square().sum()) / vectors.shape[1]


class VICReg(nn.Module):  # type: ignore[misc]
    """`vicreg` of the first two columns (question, passage) of a batch, for sentence-transformers.

    The encoder's vectors have length 1, where a dimension's standard deviation is about
    ``1 / sqrt(d)``; they are scaled by ``sqrt(d)``, so that the target of 1 can be met.

    Parameters
    ----------
    expander : width of the paper's three layers on top of them (its section 4.1), which are thrown away after
        training; 0: none.
    """

    def __init__(self, model: Any, weights: Sequence[float] = WEIGHTS, expander: int = 0) -> None:
        super().__init__()
        self.model, self.weights = model, weights
        self.expand = _expander(_width(model), expander).to(model.device) if expander else nn.Identity()

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None) -> Tensor:
        left, right = (self._embed(features) for features in list(sentence_features)[:2])
        return vicreg(left, right, self.weights)

    def _embed(self, features: dict[str, Tensor]) -> Tensor:
        vectors = functional.normalize(self.model(features)["sentence_embedding"].float(), dim=1)
        return self.expand(vectors * vectors.shape[1] ** 0.5)


def _width(model: Any) -> int:
    # Renamed in sentence-transformers 5.4.
    name = "get_embedding_dimension" if hasattr(model, "get_embedding_dimension") else None
    return int(getattr(model, name or "get_sentence_embedding_dimension")())


def _expander(width: int, wide: int) -> nn.Sequential:
    # Statistics of the batch alone: nothing but weights has to be kept.
    norms = [nn.BatchNorm1d(wide, track_running_stats=False) for _ in range(2)]
    return nn.Sequential(
        nn.Linear(width, wide), norms[0], nn.ReLU(), nn.Linear(wide, wide), norms[1], nn.ReLU(),
        nn.Linear(wide, wide),
    )  # fmt: skip
