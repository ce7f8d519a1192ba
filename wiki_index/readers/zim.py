"""Kiwix ZIM files, by libzim (an extra: ``pip install 'kaggle-rag[wikipedia]'``)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kaggle_rag.runtime.errors import InputError
from wiki_index.markup.reference_text import rough_html
from wiki_index.readers.base import Article, Reader, Skip
from wiki_index.readers.folders import ZIM_PART
from wiki_index.readers.html import plain

_REFRESH = re.compile(r"<meta\b[^<>]*http-equiv=[\"']?refresh", re.IGNORECASE)
_DISAMBIGUATION = re.compile(r"\b(?:id=[\"']disambigbox|dmbox-disambig)\b", re.IGNORECASE)


class Entry(NamedTuple):
    """A page as the archive holds it; ``html`` is ``None`` for a redirect."""

    path: str
    title: str
    html: str | None


class Zim(Reader):
    """A ``.zim`` file, or one divided into ``.zimaa``, ``.zimab`` and so on.

    An article's id is its path in the archive, since ZIM stores no page ids.
    """

    def records(self) -> Iterator[Entry]:
        archive = self._open()
        # Older archives keep articles under A/, and count other things than pages among their entries.
        is_new = archive.has_new_namespace_scheme
        count = archive.entry_count if is_new else archive.all_entry_count
        for number in range(count):
            self.share = (number + 1) / count
            try:
                entry = _entry(archive._get_entry_by_id(number), is_new)
            except (RuntimeError, UnicodeDecodeError) as error:
                raise self._damaged(f"entry {number:,} cannot be read ({error})") from error
            if entry:
                yield entry

    def _open(self) -> Any:
        try:
            from libzim.reader import Archive
        except ImportError as error:
            raise InputError(
                "reading a ZIM file needs libzim",
                where=self.path,
                cure="pip install 'libzim>=3.4'   (or the kit's extra: wikipedia)",
            ) from error
        try:
            archive = Archive(self._archive)
            # Damage inside a compressed cluster can pass for text, but not pass the checksum.
            is_intact = not archive.has_checksum or archive.check()
        except RuntimeError as error:
            raise self._damaged(f"not a complete ZIM file ({error})") from error
        if not is_intact:
            raise self._damaged("the archive's checksum is wrong: at least one byte has changed")
        return archive

    @property
    def _archive(self) -> Path:
        """The name libzim knows an archive by: that of ``w.zimaa``, ``w.zimab`` is ``w.zim``."""
        return self.path.with_suffix(".zim") if ZIM_PART.fullmatch(self.path.suffix) else self.path

    def _damaged(self, what: str) -> InputError:
        return InputError(
            what,
            where=self.path,
            cure="the download or copy may be truncated: fetch the file again and compare its checksum",
        )

    def article(self, record: Entry) -> Article | Skip:
        if record.html is None or _REFRESH.search(record.html):
            return Skip("redirect")
        if record.title.lower().endswith("(disambiguation)") or _DISAMBIGUATION.search(record.html):
            return Skip("disambiguation")
        left_out = Counter[str]()
        text = plain(record.html, left_out)
        return Article(record.path, record.title, text, is_rendered=True, left_out=left_out)

    def source(self, record: Entry) -> str:
        return rough_html(record.html or "")


def _entry(entry: Any, is_new: bool) -> Entry | None:
    if not is_new and not entry.path.startswith("A/"):
        return None
    path = entry.path if is_new else entry.path.removeprefix("A/")
    if entry.is_redirect:
        return Entry(path, entry.title, None)
    item = entry.get_item()
    if not item.mimetype.startswith("text/html"):
        return None
    return Entry(path, entry.title, bytes(item.content).decode("utf-8"))
