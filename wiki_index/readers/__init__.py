"""Readers by format, and the detection of a file's format."""

from __future__ import annotations

import re
from pathlib import Path

from kaggle_rag.data.compressed import COMPRESSED, inner_name, opened
from kaggle_rag.data.texts import decoded_head, encoding_of, not_text
from kaggle_rag.runtime.errors import InputError
from wiki_index.readers.base import Article, Reader, Skip
from wiki_index.readers.cirrus import Cirrus
from wiki_index.readers.extracted import Extracted
from wiki_index.readers.folders import ZIM_PART
from wiki_index.readers.mediawiki import MediaWiki
from wiki_index.readers.tables import JsonLines, Table, missing_columns
from wiki_index.readers.text import TextFile
from wiki_index.readers.zim import Zim

__all__ = ["ENDINGS", "READERS", "Article", "Reader", "Skip", "format_of", "why_no_articles"]

READERS: dict[str, type[Reader]] = {
    "text": TextFile,
    "table": Table,
    "mediawiki": MediaWiki,
    "cirrus": Cirrus,
    "json lines": JsonLines,
    "wikiextractor": Extracted,
    "zim": Zim,
}
# Of several formats, the first that the file's start shows; the last may need no sign.
ENDINGS: dict[str, tuple[str, ...]] = {
    ".txt": ("wikiextractor", "text"),
    ".csv": ("table",),
    ".parquet": ("table",),
    ".jsonl": ("table",),
    ".xml": ("mediawiki",),
    ".json": ("cirrus", "json lines"),
    ".zim": ("zim",),
    # WikiExtractor's files wiki_00 have no ending.
    "": ("wikiextractor", "json lines"),
}
_NOT_COMPRESSED = (".parquet", ".zim")
_SIGNS = {
    "mediawiki": re.compile(r"<mediawiki\b"),
    "cirrus": re.compile(r"\A\s*\{\s*\"index\"\s*:\s*\{"),
    "json lines": re.compile(r"\A\s*\{(?=[^\n]*\"title\"\s*:)(?=[^\n]*\"text\"\s*:)"),
    "wikiextractor": re.compile(r"\A\s*<doc\s+id=\""),
}
# Parts of a dump are named pages-articles-multistream2.xml-p41243p151573.bz2.
_PART = re.compile(r"-p\d+p\d+$")
# enwiki-20250101-pages-articles-multistream-index.txt.bz2 lists offsets, ids and titles.
_INDEX = re.compile(r"-multistream-index\d*\.txt")
_HEAD = 1 << 20


def format_of(path: Path) -> str | None:
    """The format of a file by its ending and, if that is ambiguous, its start; or ``None``."""
    name = _PART.sub("", inner_name(path))
    ending = ".zim" if ZIM_PART.fullmatch(path.suffix) else Path(name).suffix
    if (ending in _NOT_COMPRESSED and path.suffix.lower() in COMPRESSED) or _INDEX.search(name):
        return None
    formats = ENDINGS.get(ending, ())
    if not any(name in _SIGNS for name in formats):
        return formats[0] if formats else None
    with opened(path) as (file, _):
        raw = file.read(_HEAD)
    head = decoded_head(raw)
    if "mediawiki" in formats and encoding_of(path, raw[:4]) == "utf-32":
        raise not_text(path, "this is XML in UTF-32, which XML parsers need not support", "UTF-32")
    return next((name for name in formats if name not in _SIGNS or _SIGNS[name].search(head)), None)


def why_no_articles(path: Path, format_name: str) -> InputError | None:
    """Why a table cannot hold articles, judged by its schema, its header or its first row alone."""
    reader = READERS.get(format_name)
    if reader is None or not issubclass(reader, Table):
        return None
    return missing_columns(path, reader.ending)
