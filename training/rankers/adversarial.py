"""A second pass with perturbed weights, so that training does not depend on their last digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Any

import torch

from kaggle_rag.runtime.errors import ConfigError
from training.rankers.weights import depths_of

Gradients = Mapping[str, torch.Tensor]


def gradients_of(model: Any) -> Gradients:
    """A copy of the gradients that a model has, by the names of its weights."""
    return {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}


@contextmanager
def fast_gradient(model: Any, size: float, earlier: Gradients = MappingProxyType({})) -> Iterator[None]:
    """Move the embeddings by ``size`` along their gradient, ``r = size g / |g|``.

    ``earlier``: the gradients before the batch whose answers are made harder, which are no part of ``g``.
    Source: FGM, Miyato et al. 2017, https://arxiv.org/abs/1605.07725, equation 5.
    """
    depths = depths_of(model)
    with _perturbed(model, earlier, lambda name: depths[name] == 0, lambda g, w: size * g / g.norm()):
        yield


@contextmanager
def weight_perturbation(model: Any, size: float, earlier: Gradients = MappingProxyType({})) -> Iterator[None]:
    """Move all matrices along their gradient by ``size`` times their own norm, ``size |w| g / |g|``.

    ``earlier`` as above.
    Source: AWP, Wu et al. 2020, https://arxiv.org/abs/2004.05884, equation 10, in one step.
    """
    with _perturbed(model, earlier, lambda name: True, lambda g, w: size * w.norm() * g / g.norm()):
        yield


def require_embeddings(model: Any) -> None:
    """Raise ``ConfigError`` if FGM would perturb nothing, because no embedding is trained."""
    depths = depths_of(model)
    if not any(w.requires_grad and w.ndim > 1 and not depths[n] for n, w in model.named_parameters()):
        raise ConfigError(
            "fgm perturbs embeddings, and none are trained here",
            where="adversarial",
            cure="use awp, or train all weights",
        )


Perturbation = Callable[[Any, float, Gradients], AbstractContextManager[None]]
ADVERSARIES: dict[str, Perturbation] = {"fgm": fast_gradient, "awp": weight_perturbation}


@contextmanager
def _perturbed(
    model: Any, earlier: Gradients, chosen: Callable[[str], bool],
    move: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Iterator[None]:  # fmt: skip
    originals = {}
    for name, weight in model.named_parameters():
        if weight.grad is None or weight.ndim < 2 or not chosen(name):
            continue
        change = move(weight.grad - earlier[name] if name in earlier else weight.grad, weight)
        if torch.isfinite(change).all():
            originals[name] = weight.detach().clone()
            weight.data.add_(change)
    try:
        yield
    finally:
        for name, weight in model.named_parameters():
            if name in originals:
                weight.data.copy_(originals[name])
