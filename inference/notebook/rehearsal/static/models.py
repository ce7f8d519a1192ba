"""Models that the settings name: each must lie in the bundle, for no hub can be reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from inference.notebook.rehearsal.opened import OpenedBundle
from inference.notebook.rehearsal.verdict import ErrorClass, Findings
from kaggle_rag.config import Solution
from kaggle_rag.models.card import CARD
from kaggle_rag.runtime.places import at
from kaggle_rag.runtime.settings import keys_of

_SETTINGS = "solution.yaml"
# These name files of the questions, which the notebook names itself.
_OTHERS = {"questions", "contexts_file", "out"}
_CURE = "make the bundle again on a machine that has it, or give the folder of a local copy"


def check_models(bundle: OpenedBundle, found: Findings) -> None:
    """Faults of the models, rankers and the index that ``solution.yaml`` names."""
    path = bundle.folder / _SETTINGS
    if not path.is_file():
        return
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        found.fault(ErrorClass.EXCEPTION, f"not valid YAML: {error}", "make the bundle again", _SETTINGS)
        return
    if not isinstance(settings, dict):
        return
    paths, models = keys_of(Solution)
    for key in [key for key in paths if key not in _OTHERS] + models:
        at(settings, [key], lambda name, key=key: _checked(bundle, name, key, found))  # type: ignore[misc]
    if "encoder" not in settings and (bundle.folder / "kit").is_dir():
        cause = "encoder is not set: the default one comes from a package that the image lacks"
        found.fault(ErrorClass.EXCEPTION, cause, _CURE, _SETTINGS)
    for ranker in settings.get("rankers") or ():
        if isinstance(ranker, dict):
            _check_base(bundle, ranker.get("options") or {}, found)


def _checked(bundle: OpenedBundle, name: str, key: str, found: Findings) -> str:
    """Add a fault unless a model or file of this name is in the bundle; return the name."""
    inside = Path(name).is_absolute() or bundle.at(name).exists() or _attached(bundle, name)
    if not inside:
        cause = f"{key} is {name!r}, which is not in the bundle; the hub cannot be reached"
        found.fault(ErrorClass.EXCEPTION, cause, _CURE, _SETTINGS)
    if Path(name).is_absolute() and not name.startswith("/kaggle/"):
        cause = f"{key} is {name!r}, a path of this machine"
        found.fault(ErrorClass.EXCEPTION, cause, _CURE, _SETTINGS)
    return name


def _attached(bundle: OpenedBundle, name: str) -> bool:
    """Whether the kit would find a folder of that name among the inputs."""
    last = name.rsplit("/", 1)[-1]
    return any(
        path.parent.name == last for folder in bundle.folders for path in folder.glob("*/*/config.json")
    )


def _check_base(bundle: OpenedBundle, options: dict[str, Any], found: Findings) -> None:
    """An adapter whose settings give no backbone asks for the one that its card names."""
    card = bundle.at(f"{options.get('folder', '')}/{CARD}")
    if "base" in options or not card.is_file():
        return
    try:
        base = json.loads(card.read_text(encoding="utf-8")).get("base")
    except (ValueError, AttributeError):
        # The kit says so itself when it is run.
        return
    if base and not _attached(bundle, base):
        cause = f"its backbone {base!r} is not in the bundle; the hub cannot be reached"
        found.fault(ErrorClass.EXCEPTION, cause, _CURE, f"{options['folder']}/{CARD}")
