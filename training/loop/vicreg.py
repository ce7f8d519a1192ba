"""VICReg: keep the dimensions of vectors from collapsing or copying one another, without comparing vectors.

Source: Bardes, Ponce & LeCun 2022, https://arxiv.org/abs/2105.04906.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

# The paper's weights (section 4.2): of invariance, variance and covariance.
WEIGHTS = (25.0, 25.0, 1.0)
_EPSILON = 1e-4


def vicreg(left: Tensor, right: Tensor, weights: Sequence[float] = WEIGHTS) -> Tensor:
    """The loss for two batches of vectors, each ``(n, d)`` with n > 1, as a scalar.

    With the paper's weights ``25 s + 25 (v(left) + v(right)) + c(left) + c(right)``: the mean squared
    difference ``s`` (algorithm 1; it takes the mean over ``n d``, where equation 5 has that over ``n``), and
    `variance_loss` and `covariance_loss` of each batch.
    """
    spread = variance_loss(left) + variance_loss(right)
    copies = covariance_loss(left) + covariance_loss(right)
    invariance, variance, covariance = weights
    return invariance * functional.mse_loss(left, right) + variance * spread + covariance * copies


def spread_loss(vectors: Tensor, weights: Sequence[float] = WEIGHTS) -> Tensor:
    """The part of the loss that needs no pairs, of ``(n, d)`` vectors; 0 of a single one, which has none."""
    if len(vectors) < 2:
        return vectors.sum() * 0.0
    return weights[1] * variance_loss(vectors) + weights[2] * covariance_loss(vectors)


def variance_loss(vectors: Tensor) -> Tensor:
    """``mean_j max(0, 1 - sqrt(var_j + 1e-4))``, variances over ``n - 1`` (equation 1)."""
    return functional.relu(1 - torch.sqrt(vectors.var(dim=0) + _EPSILON)).mean()


def covariance_loss(vectors: Tensor) -> Tensor:
    """``sum_{i != j} cov_ij^2 / d``, covariances over ``n - 1`` (equation 4)."""
    centred = vectors - vectors.mean(dim=0)
    table = centred.T @ centred / (len(vectors) - 1)
    return (table.square().sum() - table.diagonal().square().sum()) / vectors.shape[1]
