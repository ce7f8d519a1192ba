"""Names that sentence-transformers moves between releases, imported from wherever they are."""

from __future__ import annotations

from typing import Any

try:
    from sentence_transformers.base.evaluation import BaseEvaluator
except ModuleNotFoundError:  # before 5.4
    from sentence_transformers.evaluation import SentenceEvaluator as BaseEvaluator

__all__ = ["BaseEvaluator", "retriever_losses"]


def retriever_losses() -> Any:
    """The module with the encoder losses (those of cross-encoders have not moved)."""
    try:
        from sentence_transformers.sentence_transformer import losses
    except ModuleNotFoundError:  # before 5.4
        from sentence_transformers import losses
    return losses
