"""VICReg for sentence-transformers: a question and its passage together, their dimensions apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from training.loop.vicreg import WEIGHTS, vicreg


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
