"""What the vectors of a build are computed in: decided once, and kept by every run that goes on with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kaggle_rag.index.manifest import MANIFEST
from wiki_index.build import SETTINGS


def begun_in(name: str, out: Path, reuse: Path | None) -> str | None:
    """The precision of the retriever ``name`` in a build that is to go on, be found again, or be reused.

    ``None`` where there is none: then the device decides. Whatever else is wrong with those folders is
    said by the build itself.
    """
    out = out.resolve()
    work = out.parent / f"{out.name}.building"
    places = [work / SETTINGS, work / MANIFEST, out / MANIFEST, *([reuse / MANIFEST] if reuse else [])]
    return next((found for path in places if (found := _recorded(path, name))), None)


def _recorded(path: Path, name: str) -> str | None:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        if path.name == SETTINGS:
            return str(found["asked"]["precision"][name])
        # Indexes of before there was a choice do not say it.
        return str(found["dense"][name]["encoder"].get("precision", "fp32"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
