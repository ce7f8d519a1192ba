"""The prompts before an encoder's texts: declared by its folder, or known for its family.

What a folder declares (``prompts`` of ``config_sentence_transformers.json``) always wins. Families cover
the many folders that declare nothing, because only their model card says it; each matches a whole name, so
that a relative (``bge-m3``) never gets the prompts of its siblings. Names are read from every part of a path:
``…/bge-small-en-v1.5/1`` of Kaggle's inputs, ``models--BAAI--bge-m3/snapshots/<hash>`` of the cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_SENTENCE = "Represent this sentence for searching relevant passages: "
# It ends in a full-width colon.
_CHINESE = "为这个句子生成表示以用于检索相关文章\uff1a"
_INSTRUCT = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
)
# Sources: the model cards of BAAI, intfloat, nomic-ai, mixedbread-ai, Snowflake, WhereIsAI, Alibaba-NLP, Qwen
# and google on the hub. Names are in lower case, with a dash for anything but letters and digits.
_FAMILIES: tuple[tuple[str, str, str], ...] = (
    (r"bge-(?:small|base|large)-en(?:-v1-5)?", _SENTENCE, ""),
    (r"bge-(?:small|base|large)-zh(?:-v1-5)?", _CHINESE, ""),
    (r"bge-m3", "", ""),
    (r"(?:multilingual-)?e5-(?:small|base|large)(?:-v2|-unsupervised)?", "query: ", "passage: "),
    (r"multilingual-e5-large-instruct|e5-mistral-7b-instruct", _INSTRUCT, ""),
    (r"gte-qwen(?:1-5|2)-(?:1-5b|7b)-instruct", _INSTRUCT, ""),
    (r"gte-(?:tiny|small|base|large|modernbert-base|multilingual-base)", "", ""),
    (r"gte-(?:base|large)-en-v1-5", "", ""),
    (r"nomic-embed-text-v(?:1|1-5|2-moe)", "search_query: ", "search_document: "),
    (r"modernbert-embed-(?:base|large)", "search_query: ", "search_document: "),
    (r"mxbai-embed-(?:large|2d-large)-v1|uae-large-v1", _SENTENCE, ""),
    (r"snowflake-arctic-embed-(?:xs|s|m|l|m-long|m-v1-5)", _SENTENCE, ""),
    (r"snowflake-arctic-embed-(?:m|l)-v2-0", "query: ", ""),
    (r"qwen3-embedding-(?:0-6b|4b|8b)", _INSTRUCT.rstrip(" "), ""),
    (r"embeddinggemma-300m", "task: search result | query: ", "title: none | text: "),
)
_QUERY_KEYS = ("query",)
_PASSAGE_KEYS = ("document", "passage", "corpus")


class Prompts(NamedTuple):
    """``query`` and ``passage`` go before texts of that kind; ``source`` says where they come from."""

    query: str
    passage: str
    source: str


def prompts_of(declared: Mapping[str, str | None], default: str | None, names: Iterable[str]) -> Prompts:
    """The prompts of an encoder.

    Parameters
    ----------
    declared, default : the prompts of its folder by name, and the name of the one that every text gets if
        none is requested (sentence-transformers' ``default_prompt_name``).
    names : names of the encoder: a hub name, paths.
    """
    every = declared.get(default or "") or ""
    query, passage = _first(declared, _QUERY_KEYS) or every, _first(declared, _PASSAGE_KEYS) or every
    if query or passage:
        return Prompts(query, passage, "declared by its folder")
    if (found := family_of(names)) is not None:
        return found
    others = sorted(name for name, text in declared.items() if text)
    return Prompts("", "", f"its folder declares only {', '.join(others)}" if others else "none is known")


def family_of(names: Iterable[str]) -> Prompts | None:
    """The prompts of the family that a part of a name matches in full, the last part first."""
    for name in names:
        for part in reversed(re.split(r"[/\\]", name.lower())):
            # The cache calls BAAI/bge-m3 models--baai--bge-m3.
            part = re.sub(r"^models--.*--", "", part)
            spelt = re.sub(r"[^a-z0-9]+", "-", part).strip("-")
            for pattern, query, passage in _FAMILIES:
                if re.fullmatch(pattern, spelt):
                    return Prompts(query, passage, f"known of {part}")
    return None


def _first(declared: Mapping[str, str | None], keys: Iterable[str]) -> str:
    return next((text for key in keys if (text := declared.get(key))), "")
