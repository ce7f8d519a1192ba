"""Normalisation of texts before they are compared."""

from __future__ import annotations


def same(text: str) -> str:
    """The text without differences of case and spaces, for comparing two spellings of a passage."""
    return " ".join(text.lower().split())
