"""The vectors of options: what a head scores, caught on its way there, and those of many questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from kaggle_rag.models.answering.base import TOKENS, Asked
from kaggle_rag.models.answering.item import Item
from kaggle_rag.models.packing import inner
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import ConfigError

# What an option's vector is in a form: only vectors of one kind can be compared.
HEAD = "the vector that its head scores"
TEXTS = "the vectors of its texts that are compared"


class TellsVectors(Protocol):
    """A form with vectors of options: its `AnswerForm.option_vector` says what they are."""

    def with_vectors(self, model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits ``(b, k)``, and the vector of each option of the same pass, ``(b, k, d)`` float32.

        Vectors of absent options mean nothing.
        """


@contextmanager
def scored_vectors(model: Any) -> Iterator[list[torch.Tensor]]:
    """What the model's head scored in the last pass inside the block: one tensor, ``(rows, d)``.

    Of the layers that map the model's width to its labels, it is the last one to be called: an adapter
    keeps the head that it was given beside the one that it trains, and may have such small layers itself.

    Raises
    ------
    ConfigError : the model has no such layer.
    """
    config = inner(model).config
    sizes = config.hidden_size, config.num_labels
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    fitting = [layer for layer in layers if (layer.in_features, layer.out_features) == sizes]
    if not fitting:
        raise ConfigError(
            f"the head of a {config.model_type} does not score a vector of the model's width",
            where="teacher_ranker", cure="choose another backbone, or leave teacher_ranker out",
        )  # fmt: skip
    seen: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        seen[:] = given[:1]

    hooks = [layer.register_forward_pre_hook(keep) for layer in fitting]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def option_vectors(
    backbone: Any, writer: Writer, items: Sequence[Item], wide: int, batch_tokens: int | None = None
) -> npt.NDArray[np.float32]:
    """Unit vectors of each question's options, ``(n, wide, d)``, in batches of questions of similar length.

    Zeros where an option is absent, NaN where a half precision overflows.

    Parameters
    ----------
    backbone : a `kaggle_rag.models.loading.Backbone` whose form has vectors of options.
    batch_tokens : padded tokens in one forward pass, see `AnswerForm.score`.
    """
    device = backbone.model.device
    asked = Asked(backbone.form, backbone.collator(), writer, items, rotations=1)
    table: npt.NDArray[np.float32] | None = None
    for rows, batch in asked.batches(batch_tokens or TOKENS[device.type]):
        try:
            with torch.inference_mode():
                here = {key: value.to(device) for key, value in batch.items()}
                _, vectors = backbone.form.with_vectors(backbone.model, here)
        except torch.OutOfMemoryError:
            asked.halve()
            continue
        unit = F.normalize(vectors, dim=-1).where(vectors.isfinite().all(-1, keepdim=True), torch.nan)
        found = unit.where(here["present"][..., None], 0.0).cpu().numpy()
        if table is None:
            table = np.zeros((len(items), wide, found.shape[-1]), np.float32)
        table[rows, : found.shape[1]] = found
    assert table is not None
    return table
