"""What sentence-transformers has at other places from release to release, found where it is."""

from __future__ import annotations

from typing import Any

try:
    from sentence_transformers.base.evaluation import BaseEvaluator
except ModuleNotFoundError:  # before 5.4
    from sentence_transformers.evaluation import SentenceEvaluator as BaseEvaluator

__all__ = ["BaseEvaluator", "retriever_losses"]


def retriever_losses() -> Any:
    """The package with the losses of encoders (those of cross-encoders have not moved)."""
    try:
        from sentence_transformers.sentence_transformer import losses
    except ModuleNotFoundError:  # before 5.4
        from sentence_transformers import losses
    return losses
