"""Packages that training needs and answering does not."""

from __future__ import annotations

import importlib.util
from typing import Any

from kaggle_rag.runtime.errors import ConfigError
from training.rankers.peft_methods import METHODS
from training.rankers.settings import RankerRun


def require_extra(settings: Any) -> None:
    """Raise ``ConfigError`` if a package is not installed."""
    required = ["accelerate", "datasets", *([] if settings.report_to == "none" else [settings.report_to])]
    if isinstance(settings, RankerRun):
        required += METHODS[settings.peft.method].packages
        required += ["bitsandbytes"] if "8bit" in settings.optimizer or "paged" in settings.optimizer else []
    if missing := [name for name in required if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            "not installed: " + ", ".join(missing),
            cure=f"pip install {' '.join(missing)}, or install the extra 'train'",
        )
