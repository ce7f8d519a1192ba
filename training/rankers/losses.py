"""What a ranker is trained on: losses over the scores of a question's options."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F

from training.rankers.settings import RankerRun

Batch = dict[str, torch.Tensor]
Loss = Callable[[torch.Tensor, Batch], torch.Tensor]


def cross_entropy(logits: torch.Tensor, batch: Batch, smoothing: float) -> torch.Tensor:
    """Options compete in one softmax; ``smoothing`` of the target is spread over those that are present."""
    log_likelihood = logits.log_softmax(1)
    right = -log_likelihood.gather(1, batch["labels"][:, None])[:, 0]
    if smoothing:
        present = batch["present"]
        spread = -log_likelihood.masked_fill(~present, 0).sum(1) / present.sum(1)
        right = (1 - smoothing) * right + smoothing * spread
    return (right * _weights(batch)[:, 0]).mean()


def binary(logits: torch.Tensor, batch: Batch, smoothing: float) -> torch.Tensor:
    """Every option is right or wrong on its own."""
    present = batch["present"]
    target = F.one_hot(batch["labels"], present.shape[1]).float() * (1 - smoothing) + smoothing / 2
    losses = F.binary_cross_entropy_with_logits(logits[present], target[present], reduction="none")
    return (losses * _weights(batch).expand_as(present)[present]).mean()


def _weights(batch: Batch) -> torch.Tensor:
    """How much each question counts, ``(b, 1)``.

    The losses divide by the number of questions, not by the sum of their weights: otherwise a batch of one
    question would count fully, whatever its weight.
    """
    return batch.get("weights", torch.ones_like(batch["labels"], dtype=torch.float32))[:, None]


def symmetric_divergence(one: torch.Tensor, other: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The mean of both KL divergences between two passes over the same questions with other dropout.

    Source: Liang et al. 2021, R-Drop, https://arxiv.org/abs/2106.14448, equation 3.
    """
    first, second = one.log_softmax(1), other.log_softmax(1)
    # An absent option has a probability of 0, and the lowest float as its logarithm.
    gaps = (first.exp() - second.exp()) * (first - second).masked_fill(~batch["present"], 0.0)
    return (gaps.sum(1) / 2 * _weights(batch)[:, 0]).mean()


def pairwise(logits: torch.Tensor, batch: Batch, smoothing: float, margin: float = 0.0) -> torch.Tensor:
    """The right option is preferred to each that is not as good: -log sigmoid(s_right - s_wrong - margin).

    The mean over a question's pairs, then over questions; ``smoothing`` of every pair is taken the other way
    round. ``batch["rivals"]`` ``(b, k)`` bool are the options that the right one is better than, by default
    all others; a question without any adds nothing.

    Source: Bradley & Terry 1952, https://doi.org/10.2307/2334029; with the margin of Touvron et al. 2023,
    Llama 2, https://arxiv.org/abs/2307.09288, equation 2.
    """
    right = logits.gather(1, batch["labels"][:, None])
    others = batch["present"] & ~F.one_hot(batch["labels"], logits.shape[1]).bool()
    rivals = batch.get("rivals", others)
    # An absent option's score is the lowest float, of which no difference is taken.
    gaps = (right - logits.masked_fill(~rivals, 0.0)) - margin
    losses = -(1 - smoothing) * F.logsigmoid(gaps) - smoothing * F.logsigmoid(-gaps)
    of_questions = (losses * rivals).sum(1) / rivals.sum(1).clamp(min=1)
    return (of_questions * _weights(batch)[:, 0]).mean()


LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "cross-entropy": cross_entropy,
    "binary": binary,
    "pairwise": pairwise,
}


def loss_of(settings: RankerRun, name: str) -> Loss:
    """The loss of that name with what the settings say of it."""
    margin = {"margin": settings.margin} if name == "pairwise" else {}
    return functools.partial(LOSSES[name], smoothing=settings.label_smoothing, **margin)
