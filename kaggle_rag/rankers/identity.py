"""What decides a ranker's answers beside questions and contexts, as plain JSON."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from kaggle_rag.models.card import CARD
from kaggle_rag.models.checkpoints import resolve, weights_sum
from kaggle_rag.rankers.registry import takes_index
from kaggle_rag.runtime.files import sha256

# Where a ranker runs, and how many tokens it reads at once, does not change what it answers.
_ASIDE = ("device", "batch_tokens", "packed", "streamed", "attention")


def identity(kind: str, options: Mapping[str, Any], encoder: str | None) -> dict[str, Any]:
    """Kind, options, and encoder of a ranker, and the checksums of the weights of both.

    Raises
    ------
    CheckpointError : its folder is not on this machine.
    """
    known = {key: value for key, value in options.items() if key not in _ASIDE}
    made: dict[str, Any] = {"kind": kind, "options": known, "encoder": encoder}
    if encoder and takes_index(kind):
        # A name stands for other weights once it was trained anew.
        made["encoder weights"] = weights_sum(resolve(encoder).path)
    if "folder" in options:
        from kaggle_rag.rankers.folders import located

        folder = located(str(options["folder"]))
        card = folder / CARD
        # The card holds the checksum of every file beside it.
        made["weights"] = sha256(card) if card.is_file() else weights_sum(folder)
    return made


def free_name(folder: str, kind: str, taken: Collection[str]) -> str:
    """A ranker's name in tables and files: its folder's, or its kind, with a number where it is taken."""
    plain = re.sub(r"[^\w.-]+", "-", Path(folder).name).strip(".-") or kind
    return next(
        name for n in range(1, len(taken) + 2) if (name := plain if n == 1 else f"{plain}-{n}") not in taken
    )
