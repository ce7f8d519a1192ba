"""Readers by format, and which format a file has."""

from __future__ import annotations

import re
from pathlib import Path

from kaggle_rag.compressed import COMPRESSED, inner_name, opened
from wiki_index.readers.base import Article, Reader, Skip
from wiki_index.readers.cirrus import Cirrus
from wiki_index.readers.mediawiki import MediaWiki
from wiki_index.readers.tables import JsonLines, Table
from wiki_index.readers.text import TextFile
from wiki_index.readers.zim import Zim

__all__ = ["ENDINGS", "READERS", "Article", "Reader", "Skip", "format_of"]

READERS: dict[str, type[Reader]] = {
    "text": TextFile,
    "table": Table,
    "mediawiki": MediaWiki,
    "cirrus": Cirrus,
    "json lines": JsonLines,
    "zim": Zim,
}
# More than one format: the first that the file's start speaks for.
ENDINGS: dict[str, tuple[str, ...]] = {
    ".txt": ("text",),
    ".csv": ("table",),
    ".parquet": ("table",),
    ".jsonl": ("table",),
    ".xml": ("mediawiki",),
    ".json": ("cirrus", "json lines"),
    ".zim": ("zim",),
}
_NOT_COMPRESSED = (".txt", ".parquet", ".zim")
_SIGNS = {
    "mediawiki": re.compile(rb"<mediawiki\b"),
    "cirrus": re.compile(rb"\A\s*\{\s*\"index\"\s*:\s*\{"),
    "json lines": re.compile(rb"\A\s*\{(?=[^\n]*\"title\"\s*:)(?=[^\n]*\"text\"\s*:)"),
}
# Parts of a dump are named pages-articles-multistream2.xml-p41243p151573.bz2.
_PART = re.compile(r"-p\d+p\d+$")
_HEAD = 1 << 20


def format_of(path: Path) -> str | None:
    """The format of a file by its ending and, where endings do not tell, its start; or ``None``."""
    ending = Path(_PART.sub("", inner_name(path))).suffix
    if ending in _NOT_COMPRESSED and path.suffix.lower() in COMPRESSED:
        return None
    formats = ENDINGS.get(ending, ())
    if not any(name in _SIGNS for name in formats):
        return formats[0] if formats else None
    with opened(path) as (file, _):
        head = file.read(_HEAD)
    return next((name for name in formats if _SIGNS[name].search(head)), None)
