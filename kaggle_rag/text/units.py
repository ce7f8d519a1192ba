"""What one passage is: a sentence, a window of tokens, or a whole article."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import sentencex

from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.text.cleaning import begins_with_page, ends_short, paragraphs
from kaggle_rag.text.normalise import UNSPACED

_TWO_WORDS = re.compile(r"\w\W+\w")
# So many characters of a script without spaces are two words or more.
_UNSPACED_WORDS = 4
_LETTER = re.compile(r"[^\W\d_]")
_CONTINUATIONS = (":", ";", ",")
# Characters of a line beyond which its items are no longer put behind it.
_LONGEST_LIST = 600
# A word of so few letters before a stop and a small letter is an abbreviation, whichever it is.
_SHORT = 4
SCRAPS = "scraps without two words"


@dataclasses.dataclass(frozen=True)
class Unit:
    """A parsed ``--unit``: its kind, and for windows their size and overlap in tokens."""

    kind: str
    size: int = 0
    overlap: int = 0

    @classmethod
    def parse(cls, text: str) -> Unit:
        kind, _, numbers = text.partition(":")
        try:
            if kind == "window":
                size, overlap = map(int, numbers.split("/"))
                if not 0 <= overlap < size:
                    raise ValueError
                return cls(kind, size, overlap)
            if kind not in SPLITTERS or numbers:
                raise ValueError
        except ValueError:
            raise ConfigError(
                f"cannot read the unit {text!r}",
                where="--unit",
                expected="sentence, article, or window:SIZE/OVERLAP in tokens, such as window:256/64",
            ) from None
        return cls(kind)

    def __str__(self) -> str:
        return f"window:{self.size}/{self.overlap}" if self.kind == "window" else self.kind


@dataclasses.dataclass(frozen=True)
class Splitter:
    """Cuts articles into passages; only windows need ``tokenizer`` (a fast one)."""

    unit: Unit
    language: str = "en"
    tokenizer: Any = None

    def __call__(
        self, text: str, is_rendered: bool = False, left_out: Counter[str] | None = None
    ) -> list[str]:
        """The passages of one article, in order; none if it holds no text.

        ``is_rendered`` and ``left_out`` are those of `paragraphs`.
        """
        left_out = Counter() if left_out is None else left_out
        return SPLITTERS[self.unit.kind](self, paragraphs(text, is_rendered, left_out), left_out)


def sentences(text: str, language: str = "en", left_out: Counter[str] | None = None) -> list[str]:
    """Sentences of a clean paragraph, by sentencex.

    Scraps without two words are dropped, and counted in ``left_out``.
    """
    pieces: list[str] = []
    for piece in sentencex.segment(language, text):
        # "Pop.: 291,826" is not the end of a sentence.
        if pieces and piece[:1] in _CONTINUATIONS and not begins_with_page(piece, pieces[-1]):
            pieces[-1] += piece
        elif pieces and _goes_on(pieces[-1], piece):
            pieces[-1] = f"{pieces[-1].rstrip()} {piece.lstrip()}"
        else:
            pieces.append(piece)
    pieces = [piece.strip() for piece in pieces]
    usable = [piece for piece in pieces if _has_two_words(piece) and _LETTER.search(piece)]
    if left_out is not None and len(usable) < len(pieces):
        left_out[SCRAPS] += sum(map(bool, pieces)) - len(usable)
    return usable


def _goes_on(before: str, piece: str) -> bool:
    """Whether a sentence was cut after an abbreviation: ``approx. 70 kg``, ``spp. cause disease``."""
    first = piece.lstrip()[:1]
    return (first.islower() or first.isdigit()) and ends_short(before, _SHORT * first.islower())


def _has_two_words(text: str) -> bool:
    return bool(_TWO_WORDS.search(text)) or len(UNSPACED.findall(text)) >= _UNSPACED_WORDS


def _by_sentence(splitter: Splitter, lines: list[str], left_out: Counter[str]) -> list[str]:
    whole = _with_their_items(lines)
    return [sentence for line in whole for sentence in sentences(line, splitter.language, left_out)]


def _with_their_items(lines: list[str]) -> list[str]:
    """Lines, with items of one word behind the line that introduces them: ``The gases are: Helium, Neon``."""
    text: list[str] = []
    introduced = False
    for line in lines:
        is_item = introduced and not _has_two_words(line) and len(text[-1]) < _LONGEST_LIST
        if is_item:
            text[-1] += (" " if text[-1].endswith(":") else ", ") + line
        else:
            text.append(line)
        introduced = is_item or line.endswith(":")
    return text


def _by_article(splitter: Splitter, lines: list[str], left_out: Counter[str]) -> list[str]:
    return [" ".join(lines)] if lines else []


def _by_window(splitter: Splitter, lines: list[str], left_out: Counter[str]) -> list[str]:
    """Windows of at most ``size`` tokens, each sharing at least ``overlap`` with the one before.

    Borders move back to the start of a word, so that a window reads as the text did.
    """
    text = " ".join(lines)
    encoded = splitter.tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
    )
    spans, words = encoded["offset_mapping"], encoded.word_ids()
    windows, start, stop = [], 0, 0
    while stop < len(spans):
        full = min(start + splitter.unit.size, len(spans))
        # A word longer than a whole window (text without spaces) is cut inside.
        border = _word_start(words, full)
        stop = border if border > stop else full
        windows.append(text[spans[start][0] : spans[stop - 1][1]])
        border = _word_start(words, stop - splitter.unit.overlap)
        # Of a window that was cut short, the overlap may be more than all.
        least = max(start, stop - splitter.unit.size)
        start = border if border > least else max(start, stop - splitter.unit.overlap)
    return windows


def _word_start(words: Sequence[int | None], token: int) -> int:
    """The first token of the word that holds ``token`` (the end of the text is a border too)."""
    while 0 < token < len(words) and words[token] == words[token - 1]:
        token -= 1
    return token


SPLITTERS: dict[str, Callable[[Splitter, list[str], Counter[str]], list[str]]] = {
    "sentence": _by_sentence,
    "window": _by_window,
    "article": _by_article,
}
