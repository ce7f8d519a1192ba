"""Normalisation of texts before they are compared."""

from __future__ import annotations

import re
import unicodedata

# Scripts that are written without spaces: Thai, Lao, Burmese, Khmer, kana and Han characters.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
UNSPACED = re.compile(f"[{_UNSPACED}]")
_WORD = re.compile(r"\w+")
_RUNS = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")


def same(text: str) -> str:
    """The text without differences of case, spaces and composition, for comparing spellings of a passage."""
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def words(text: str) -> list[str]:
    """The words of a text; where a script has no spaces, each two neighbouring characters.

    Source of the pairs: Nie et al. 2000, On the use of words and n-grams for Chinese information retrieval,
    https://doi.org/10.1145/355214.355235.
    """
    found = _WORD.findall(text)
    if not UNSPACED.search(text):
        return found
    return [piece for word in found for run in _RUNS.findall(word) for piece in _pieces(run)]


def _pieces(run: str) -> list[str]:
    if len(run) < 2 or not UNSPACED.match(run):
        return [run]
    return [run[at : at + 2] for at in range(len(run) - 1)]
