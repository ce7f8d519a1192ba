"""All that determines the hidden states of a pass, by which a killed one is known again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import transformers

from kaggle_rag.models.answering.base import Batch


def key_of(
    weights: Sequence[Path], adapter: Path | None, config: Any, batches: Iterable[Batch], **more: Any
) -> dict[str, Any]:
    """Plain JSON of the weights' files, which are too large to be summed, the config and the tokens."""
    digest = hashlib.sha256()
    for batch in batches:
        for name in ("input_ids", "position_ids", "group", "branch"):
            digest.update(batch[name].numpy().tobytes())
    return {
        "weights": _stamps(weights), "adapter": _stamps([*adapter.glob("adapter_*")] if adapter else []),
        "config": hashlib.sha256(config.to_json_string(use_diff=False).encode()).hexdigest(),
        "questions": digest.hexdigest(), "transformers": transformers.__version__, **more,
    }  # fmt: skip


def _stamps(paths: Sequence[Path]) -> list[list[Any]]:
    """Name, size and time of change of each file."""
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(paths)]
