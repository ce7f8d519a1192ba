"""The wiki that a dump comes from: its language, and the names of its namespaces.

Names come from ``<namespaces>`` of the dump. ``namespaces.json`` adds what a dump does not list
(aliases, such as Swedish ``Bild:`` for ``Fil:``) and stands in where it lists nothing: the names of
400 languages and the behaviour switches of all of them, from the message files of MediaWiki 1.39.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).with_name("namespaces.json")
_HIDDEN = {"-2": "media", "6": "file", "14": "category"}
_ENGLISH = {"media": "media", "file": "file", "image": "file", "category": "category"}
_ENGLISH_OTHER = {
    "special", "talk", "user", "user talk", "wikipedia", "wikipedia talk", "project", "project talk",
    "file talk", "image talk", "mediawiki", "mediawiki talk", "template", "template talk", "help",
    "help talk", "category talk", "portal", "portal talk", "draft", "draft talk", "module", "module talk",
    "timedtext", "timedtext talk", "book", "book talk",
}  # fmt: skip
# Codes that wikis use and MediaWiki's own list of languages lacks or spells differently.
_CODES = {"simple", "be-x-old", "zh-cn", "zh-tw", "nan", "cz", "dk", "jp", "epo", "minnan"}


@dataclasses.dataclass(frozen=True)
class Site:
    """What reading a page needs to know of its wiki.

    Parameters
    ----------
    language : the code of the wiki's language; empty if the dump does not say.
    hidden : the kind (``file``, ``media``, ``category``) of a link that shows nothing, by the
        lower-case name of its namespace.
    other : the names of the other namespaces without articles.
    """

    language: str
    hidden: Mapping[str, str]
    other: frozenset[str]

    def hides(self, title: str) -> str:
        """The kind of a link that shows nothing (``File:…`` and the like); else an empty string."""
        name, colon, _ = title.partition(":")
        return self.hidden.get(normal(name), "") if colon else ""

    def is_article(self, title: str) -> bool:
        """Whether a page of this title is an article, as far as the title shows."""
        name, colon, _ = title.partition(":")
        return not (colon and (normal(name) in self.hidden or normal(name) in self.other))


def normal(name: str) -> str:
    """A namespace's name in the form used for comparison: ``User_Talk`` is ``user talk``."""
    return " ".join(name.replace("_", " ").lower().split())


@lru_cache(maxsize=64)
def site(language: str = "", names: tuple[tuple[str, str], ...] = ()) -> Site:
    """A wiki by its language and by ``(key, name)`` of its ``<namespaces>``.

    With neither a known language nor names, those of all languages count in links.
    """
    table = _table()["languages"]
    hidden, other = dict(_ENGLISH), set(_ENGLISH_OTHER)
    known = language.lower() in table
    if known or not names:
        for code in [language.lower()] if known else table:
            for kind in _HIDDEN.values():
                hidden.update(dict.fromkeys(table[code].get(kind, ()), kind))
            # With an unknown language, no title counts as another namespace's.
            other.update(table[code].get("other", ()) if known else ())
    for key, name in names:
        if key in _HIDDEN:
            hidden[normal(name)] = _HIDDEN[key]
        elif key != "0":
            other.add(normal(name))
    return Site(language.lower(), hidden, frozenset(other))


@lru_cache(maxsize=1)
def language_codes() -> frozenset[str]:
    """Language codes in links to other wikis, as in ``[[de:Eisen]]``."""
    return frozenset(_table()["languages"]) | _CODES


@lru_cache(maxsize=1)
def switches() -> frozenset[str]:
    """Behaviour switches in every language: ``NOTOC`` of ``__NOTOC__``."""
    return frozenset(_table()["switches"])


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    return dict(json.loads(_TABLE.read_text(encoding="utf-8")))
