"""Normalisation of texts before they are compared."""

from __future__ import annotations

import re
import unicodedata

# Of what `words` takes for one word; an index that was built by others is told.
WORD_RULES = 2
# Scripts that are written without spaces: Thai, Lao, Burmese, Khmer, kana and Han characters.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
UNSPACED = re.compile(f"[{_UNSPACED}]")
_WORD = re.compile(r"\w+")
# Soft hyphens, word joiners, byte order marks, and signs of trade marks: no part of a word.
_UNSEEN = re.compile("[\u00ad\u2060\ufeff™℠®]")
# Raised numbers, fractions and numbers in circles, which are words of their own.
_APART = re.compile("[²³¹⁰⁴-⁹]+|[¼-¾⅐-⅞↉①-⓿❶-➓]")
# With separators of thousands: 299,792,458. A list without spaces, such as 100,200, reads the same.
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)")
_RUNS = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")


def same(text: str) -> str:
    """The text without differences of case, spaces and composition, for comparing spellings of a passage."""
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def words(text: str) -> list[str]:
    """The words of a text in lower case; where a script has no spaces, each two neighbouring characters.

    Spellings that mean the same are one word: ``CO₂`` and ``CO2``, ``299,792,458`` and ``299792458``, a word
    with soft hyphens and without. A raised number is a word of its own, as in ``10^5``.

    Source of the pairs: Nie et al. 2000, On the use of words and n-grams for Chinese information retrieval,
    https://doi.org/10.1145/355214.355235.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _APART.sub(r" \g<0> ", _UNSEEN.sub("", text)))
    found = _WORD.findall(_THOUSANDS.sub(lambda number: number[0].replace(",", ""), text.lower()))
    if text.isascii() or not UNSPACED.search(text):
        return found
    return [piece for word in found for run in _RUNS.findall(word) for piece in _pieces(run)]


def _pieces(run: str) -> list[str]:
    if len(run) < 2 or not UNSPACED.match(run):
        return [run]
    return [run[at : at + 2] for at in range(len(run) - 1)]
