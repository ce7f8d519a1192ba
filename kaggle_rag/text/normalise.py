"""Normalisation of texts before they are compared."""

from __future__ import annotations

import re
import unicodedata

# Scripts that are written without spaces: Thai, Lao, Burmese, Khmer, kana and Han characters.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
UNSPACED = re.compile(f"[{_UNSPACED}]")
_WORD = re.compile(r"\w+")
# Soft hyphens, word joiners and byte order marks: inside words, and never seen.
_UNSEEN = re.compile("[\u00ad\u2060\ufeff]")
_RAISED = re.compile("[²³¹⁰⁴-⁹]+")
# Of thousands, as in 299,792,458; the comma of "1,2-ethanediol" is none.
_SEPARATOR = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_RUNS = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")


def same(text: str) -> str:
    """The text without differences of case, spaces and composition, for comparing spellings of a passage."""
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def words(text: str) -> list[str]:
    """The words of a text; where a script has no spaces, each two neighbouring characters.

    Spellings that mean the same are one word: ``CO₂`` and ``CO2``, ``299,792,458`` and ``299792458``, a word
    with soft hyphens and without. A raised number is a word of its own, as in ``10^5``.

    Source of the pairs: Nie et al. 2000, On the use of words and n-grams for Chinese information retrieval,
    https://doi.org/10.1145/355214.355235.
    """
    text = _RAISED.sub(r" \g<0>", _SEPARATOR.sub("", _UNSEEN.sub("", text)))
    found = _WORD.findall(unicodedata.normalize("NFKC", text))
    if not UNSPACED.search(text):
        return found
    return [piece for word in found for run in _RUNS.findall(word) for piece in _pieces(run)]


def _pieces(run: str) -> list[str]:
    if len(run) < 2 or not UNSPACED.match(run):
        return [run]
    return [run[at : at + 2] for at in range(len(run) - 1)]
