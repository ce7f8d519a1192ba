"""Merge an adapter into its backbone's weights, and verify that the answers stay the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kaggle_rag.data.contexts import lines_as_snippets
from kaggle_rag.evaluation import learnt
from kaggle_rag.evaluation.learnt import Learnt
from kaggle_rag.models.answering.item import Item
from kaggle_rag.models.card import RankerCard
from kaggle_rag.models.devices import device_of, half_of
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import ArtifactError, CheckpointError, ConfigError
from kaggle_rag.runtime.files import require_new, whole_folder

if TYPE_CHECKING:
    from kaggle_rag.models.loading import Backbone

# Largest allowed difference of a logit, as a share of the largest logit.
_TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 5e-2}
_PROBES = tuple(
    Item(
        f"Which of these {word} stands in the text?", ("the first one", "the second", "none of them"),
        (lines_as_snippets(f"Here {word} are told apart. The second is right."),) * 3, 1,
    )
    for word in ("metals", "planets", "cells", "numbers")
)  # fmt: skip


def merge(folder: Path, out: Path, *, base: str | None = None, device: str | None = None) -> dict[str, Any]:
    """Write the merged weights of an adapter's ranker to ``out``; return the largest logit difference.

    A 4-bit backbone is dequantized first: its adapter was trained on those weights, and rounding the sum
    to 4 bits again would lose most of the adapter.

    Raises
    ------
    CheckpointError : the folder contains no adapter.
    ArtifactError : ``out`` exists, or the answers differ (then nothing is written).
    """
    require_new(out)
    if not RankerCard.read(folder).base:
        raise CheckpointError("this ranker has no adapter: its weights are complete", where=folder)
    from kaggle_rag.models.loading import load_ranker

    target = device_of(device)
    precision = half_of(target)
    card, unmerged = load_ranker(folder, device=target, precision=precision, base=base)
    _require_mergeable(unmerged, folder)
    before = _answers(unmerged, card)
    merged = _merged(folder, card, unmerged, base, target, precision)
    after = _answers(merged, card)
    gap = float(np.abs(after - before).max() / max(1.0, float(np.abs(before).max())))
    # Products in 4 bits are rounded along the way, whatever the precision.
    if not gap <= max(_TOLERANCE[precision], 1e-2 if card.nf4 else 0.0):
        raise ArtifactError(
            f"merged and unmerged weights give different answers (by {gap:.2g} of the largest logit)",
            where=folder, cure="use the adapter as it is",
        )  # fmt: skip
    _write(merged, card, out, learnt.union([learnt.read(folder)]))
    return {"difference": gap, "precision": precision}


def _require_mergeable(unmerged: Backbone, folder: Path) -> None:
    from kaggle_rag.models.own_adapters import own_adapter

    if own := own_adapter(unmerged.model):
        why = own.WHY_NOT_MERGED
    elif unmerged.model.active_peft_config.is_prompt_learning:
        why = "virtual tokens are not weights"
    else:
        return
    raise ConfigError(f"{why}: this adapter cannot be merged", where=folder, cure="use the adapter as it is")


def _answers(backbone: Backbone, card: RankerCard) -> Any:
    backbone.model.eval()
    writer = Writer(backbone.tokenizer, card.layout, card.max_tokens)
    return backbone.form.score(backbone, writer, _PROBES)


def _merged(
    folder: Path, card: RankerCard, unmerged: Backbone, base: str | None, device: str, precision: str
) -> Backbone:
    from peft import PeftModel

    from kaggle_rag.models.loading import load_backbone

    if not card.nf4:
        return unmerged._replace(model=unmerged.model.merge_and_unload())
    fresh = load_backbone(
        base or card.base, card.form, device=device, precision=precision, nf4=True, labels=card.labels
    )
    adapted = PeftModel.from_pretrained(fresh.model.dequantize(), str(folder))
    return fresh._replace(model=adapted.merge_and_unload())


def _write(merged: Backbone, card: RankerCard, out: Path, known: Learnt) -> None:
    """Publish the folder in one rename."""
    from training.rankers.saving import save_weights

    with whole_folder(out) as aside:
        save_weights(merged.model, aside)
        merged.tokenizer.save_pretrained(aside)
        dataclasses.replace(card, base="", base_sha256="", nf4=False).write(aside)
        learnt.write(aside, known)
