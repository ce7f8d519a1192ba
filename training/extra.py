"""Packages that training needs and answering questions does not."""

from __future__ import annotations

import importlib.util
from typing import Any

from kaggle_rag.errors import ConfigError


def require_extra(settings: Any) -> None:
    """Raise ``ConfigError`` where a package is not installed."""
    wanted = ["accelerate", "datasets", *(["tensorboard"] if settings.report_to == "tensorboard" else [])]
    if missing := [name for name in wanted if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            "not installed: " + ", ".join(missing),
            cure=f"pip install {' '.join(missing)}, or install the extra 'train'",
        )
