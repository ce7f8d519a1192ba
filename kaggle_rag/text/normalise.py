"""Texts made alike before they are compared."""

from __future__ import annotations


def same(text: str) -> str:
    """What two spellings of one passage share: case and spaces set aside."""
    return " ".join(text.lower().split())
