"""Whether an article is in the language of the corpus, judged by its script and most common words.

A third of a language's prose consists of a handful of words (English: 40 %), which are rare in other
languages. No model, no dependency: this finds pages that are in the wrong corpus.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

_COMMON = {
    "en": "the of and in to a is was for as on by with that from at his it an were are which or be",
    "de": "der die das und in den von zu mit ist im des auf für als dem ein eine sich nicht wurde an war",
    "fr": "de la le et les des en un une du dans est par pour au sur que qui il à se plus son l d",
    "es": "de la en el y a los del las que se un por con una para su como es al fue o no lo",
    "it": "di e il la in che un a per del una è con da nel si le i della dei alla al gli l",
    "pt": "de a o e em do da que um os com no uma para as na dos por foi se das é ao",
    "nl": "de van het een in en is op te met voor zijn dat die aan door was er ook als bij werd",
}
LANGUAGES = tuple(_COMMON)
_WORD = re.compile(r"[^\W\d_]+")
# List items are not prose; this many words are enough to judge by, and the first passages will do.
_PROSE, _ENOUGH, _FIRST, _LEAST = 60, 30, 30, 0.03


def is_foreign(passages: Sequence[str], language: str) -> bool:
    """Whether the prose of an article is in another script, or has another language's common words.

    Reads the first 30 passages longer than 60 characters; with fewer than 30 words there, or with a
    ``language`` outside ``LANGUAGES``, the answer is False.
    """
    words = [w for p in [p for p in passages if len(p) > _PROSE][:_FIRST] for w in _WORD.findall(p.lower())]
    if language not in _COMMON or len(words) < _ENOUGH:
        return False
    latin = sum(unicodedata.name(word[0], "").startswith("LATIN") for word in words)
    shares = {name: sum(word in _common(name) for word in words) / len(words) for name in LANGUAGES}
    own = shares[language]
    return latin < len(words) / 2 or own < _LEAST or own < 0.7 * max(shares.values())


@lru_cache(maxsize=len(LANGUAGES))
def _common(language: str) -> frozenset[str]:
    return frozenset(_COMMON[language].split())
