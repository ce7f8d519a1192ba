"""The precision that a build computes vectors in: decided once, and kept by every run that resumes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kaggle_rag.index.manifest import MANIFEST
from wiki_index.build import SETTINGS


def earlier_precision(name: str, out: Path, reuse: Path | None) -> str | None:
    """The precision of the retriever ``name`` in a build to resume, a finished one, or one to reuse.

    ``None`` if there is none; the device then decides. Any other fault of those folders is reported by
    the build itself.
    """
    out = out.resolve()
    work = out.parent / f"{out.name}.building"
    paths = [work / SETTINGS, work / MANIFEST, out / MANIFEST, *([reuse / MANIFEST] if reuse else [])]
    return next((precision for path in paths if (precision := _recorded(path, name))), None)


def _recorded(path: Path, name: str) -> str | None:
    try:
        record: Any = json.loads(path.read_text(encoding="utf-8"))
        if path.name == SETTINGS:
            return str(record["asked"]["precision"][name])
        # Indexes from before there was a choice do not record it.
        return str(record["dense"][name]["encoder"].get("precision", "fp32"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
