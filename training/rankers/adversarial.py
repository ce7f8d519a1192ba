"""A second pass with disturbed weights, so that what is learnt does not hang on their last digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from kaggle_rag.runtime.errors import ConfigError
from training.rankers.weights import depths_of


@contextmanager
def fast_gradient(model: Any, size: float) -> Iterator[None]:
    """Embeddings moved by ``size`` along their gradient, ``r = size g / |g|``.

    Source: FGM, Miyato et al. 2017, https://arxiv.org/abs/1605.07725, equation 5.
    """
    depths = depths_of(model)
    with _disturbed(model, lambda name: depths[name] == 0, lambda g, w: size * g / g.norm()):
        yield


@contextmanager
def weight_perturbation(model: Any, size: float) -> Iterator[None]:
    """All matrices moved along their gradient by ``size`` of their own length, ``size |w| g / |g|``.

    Source: AWP, Wu et al. 2020, https://arxiv.org/abs/2004.05884, equation 10, in one step.
    """
    with _disturbed(model, lambda name: True, lambda g, w: size * w.norm() * g / g.norm()):
        yield


def require_embeddings(model: Any) -> None:
    """Raise ``ConfigError`` where FGM would disturb nothing, because no embedding is trained."""
    depths = depths_of(model)
    if not any(w.requires_grad and w.ndim > 1 and not depths[n] for n, w in model.named_parameters()):
        raise ConfigError(
            "fgm disturbs embeddings, and none is trained here",
            where="adversarial",
            cure="use awp, or train all weights",
        )


Disturb = Callable[[Any, float], AbstractContextManager[None]]
ADVERSARIES: dict[str, Disturb] = {"fgm": fast_gradient, "awp": weight_perturbation}


@contextmanager
def _disturbed(
    model: Any, chosen: Callable[[str], bool], move: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    kept = {}
    for name, weight in model.named_parameters():
        gradient = weight.grad
        if gradient is None or weight.ndim < 2 or not chosen(name):
            continue
        change = move(gradient, weight)
        if torch.isfinite(change).all():
            kept[name] = weight.detach().clone()
            weight.data.add_(change)
    try:
        yield
    finally:
        for name, weight in model.named_parameters():
            if name in kept:
                weight.data.copy_(kept[name])
