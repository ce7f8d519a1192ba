"""Reading a MediaWiki dump: wikitext to text compared with mwparserfromhell, and bounded memory.

The second table reads one dump as is, and with its pages repeated under new ids and titles: memory must
not grow with the file. The third lengthens one line of markup that never closes: twice the text must take
about twice the time.
"""

from __future__ import annotations

import bz2
import sys
import tempfile
from itertools import islice
from pathlib import Path
from xml.sax.saxutils import escape

import mwparserfromhell

from benchmarks.common import parser, report, timed
from kaggle_rag.runtime.files import write_json
from kaggle_rag.runtime.limits import show_size
from wiki_index.corpus import Article, Corpus
from wiki_index.markup.wikitext import plain
from wiki_index.readers.mediawiki import MediaWikiPage

DUMP = Path(__file__).parents[2] / "shared/data/wiki_xml/enwiki-pages-articles1-shortened.xml.bz2"
UNCLOSED = "{{a|"


def repeated(dump: Path, times: int, folder: Path) -> Path:
    """Write the dump's pages ``times`` times, under new ids and titles, with one bzip2 stream per repeat."""
    out = folder / f"pages-articles-{times}.xml.bz2"
    pages = [page.record for page in Corpus.open(dump).pages()]
    with out.open("wb") as file:
        file.write(bz2.compress(b"<mediawiki>\n"))
        for number in range(times):
            text = "".join(_xml(page, number, len(pages) * number + i) for i, page in enumerate(pages, 1))
            file.write(bz2.compress(text.encode(), 1))
        file.write(bz2.compress(b"</mediawiki>\n"))
    return out


def _xml(page: MediaWikiPage, number: int, key: int) -> str:
    redirect = '<redirect title="x"/>' if page.is_redirect else ""
    return (
        f"<page><title>{escape(page.title)} {number}</title><ns>{page.namespace}</ns><id>{key}</id>{redirect}"
        f"<revision><model>wikitext</model><text>{escape(page.text)}</text></revision></page>\n"
    )


def speed(dump: Path, pages: int) -> list[dict[str, object]]:
    texts = [
        page.record.text for page in islice(Corpus.open(dump).pages(), pages) if not page.record.is_redirect
    ]
    ways = {
        "mwparserfromhell.parse(…).strip_code()": lambda text: mwparserfromhell.parse(text).strip_code(),
        "kaggle-rag": plain,
    }
    rows: list[dict[str, object]] = []
    reference = None
    for name, way in ways.items():
        _, seconds, peak = timed(name, lambda way=way: [len(way(text)) for text in texts], 1)
        reference = reference or seconds
        rows.append({
            "wikitext to plain text": name,
            "articles/s": f"{len(texts) / seconds:.1f}",
            "MB/s": f"{sum(map(len, texts)) / seconds / 1e6:.1f}",
            "ratio": f"{reference / seconds:.1f}",
            "peak RAM": show_size(peak),
        })  # fmt: skip
    return rows


def memory(dump: Path, times: tuple[int, ...]) -> list[dict[str, object]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in times:
            corpus = Corpus.open(repeated(dump, number, Path(folder)))
            items, seconds, peak = timed("read", lambda corpus=corpus: _counted(corpus), 1)
            articles, skipped, characters = items
            rows.append({
                "repeated": number,
                "file": show_size(corpus.size),
                "articles": articles,
                "skipped": skipped,
                "text": show_size(characters),
                "seconds": f"{seconds:.1f}",
                "peak RAM": show_size(peak),
            })  # fmt: skip
    return rows


def _counted(corpus: Corpus) -> tuple[int, int, int]:
    articles = skipped = characters = 0
    for page in corpus.pages():
        found = page.article()
        if isinstance(found, Article):
            articles, characters = articles + 1, characters + len(found.text)
        else:
            skipped += 1
    return articles, skipped, characters


def unclosed(sizes: tuple[int, ...], theirs_up_to: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for size in sizes:
        text = (UNCLOSED * size)[:size]
        _, seconds, _ = timed("ours", lambda text=text: plain(text), 1)
        row: dict[str, object] = {"characters": f"{size:,}", "kaggle-rag, s": f"{seconds:.2f}"}
        if size <= theirs_up_to:
            _, seconds, _ = timed("theirs", lambda text=text: mwparserfromhell.parse(text), 1)
        row["mwparserfromhell, s"] = f"{seconds:.2f}" if size <= theirs_up_to else None
        rows.append(row)
    return rows


def main() -> int:
    flags = parser(str(__doc__))
    flags.add_argument("--dump", type=Path, default=DUMP, help="a pages-articles.xml.bz2")
    arguments = flags.parse_args()
    quick = arguments.quick
    tables = {
        "Wikitext to plain text": speed(arguments.dump, 120 if quick else 1_000_000),
        "Memory does not grow with the dump": memory(arguments.dump, (1, 10) if quick else (1, 10, 100)),
        "Markup that never closes": unclosed((10_000, 20_000, 1_000_000), 10_000 if quick else 20_000),
    }
    note = f"{arguments.dump.name}, one process."
    for title, rows in tables.items():
        report(title, rows, None, note)
    if arguments.json:
        write_json(arguments.json, {"note": note, "tables": tables})
    return 0


if __name__ == "__main__":
    sys.exit(main())
