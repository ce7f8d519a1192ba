"""Free what a training leaves in memory, before the next model is loaded beside it."""

from __future__ import annotations

import sys

from kaggle_rag.runtime.limits import release


def forget_training() -> None:
    """Give back the memory of a model that was trained, whose mixed precision keeps it in a cycle.

    bitsandbytes' optimizers register every embedding that they meet, and with it the model, for good.
    """
    if bitsandbytes := sys.modules.get("bitsandbytes"):
        bitsandbytes.optim.GlobalOptimManager._instance = None
    release()
