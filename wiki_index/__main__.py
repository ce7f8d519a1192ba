"""python -m wiki_index  build · search · check"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from kaggle_rag.errors import ConfigError, run_program

_BUILD = """\
examples:
  python -m wiki_index build articles.parquet index/
  python -m wiki_index build wikipedia/20231101.en/ index/ --dry-run
  python -m wiki_index build enwiki-20250101-pages-articles-multistream.xml.bz2 index/
  python -m wiki_index build notes/ index/ --unit window:254/64 --encoder BAAI/bge-small-en-v1.5 --online

CORPUS is a file, or a folder of files, of these formats:
  .xml          a MediaWiki export: pages-articles.xml.bz2, multistream too, whole or in parts
  .json         a CirrusSearch dump (.json.gz), or JSON lines with title and text
  .zim          a Kiwix archive (needs libzim: pip install libzim)
  .parquet, .jsonl, .csv   columns title and text, id may be there: Hugging Face wikimedia/wikipedia
  .txt          one article a file
Texts may be compressed: .gz, .bz2. Redirects, disambiguations and pages outside the articles'
namespace are left out; the manifest counts them.

The work happens in OUT.building. Killed at any point, the same command goes on where it was and
ends with the same bytes."""

_CHECK = """\
examples:
  python -m wiki_index check index/
  python -m wiki_index check --corpus enwiki-pages-articles.xml.bz2 --every 100 --json corpus.json

--corpus compares the sentences that an index would hold with the source, read in a rougher way:
numbers and formulae that are in the one and not in the other; and counts holes ("a mass of , where")
that stand for what was lost before the corpus was made."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wiki_index", description="Build, search and check an index of passages."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = commands.add_parser(
        "build", help="corpus to index", epilog=_BUILD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    build.add_argument("corpus", metavar="CORPUS", help="file or folder of articles")
    build.add_argument("out", metavar="OUT", type=Path, help="folder to write the index to")
    build.add_argument(
        "--unit", default="sentence",
        help="one passage is a sentence, an article, or window:SIZE/OVERLAP tokens (default: sentence)",
    )  # fmt: skip
    build.add_argument("--encoder", help="folder or hub name (default: all-MiniLM-L6-v2)")
    build.add_argument("--title", action="store_true", help="embed 'title text' instead of the text alone")
    build.add_argument("--language", default="en", help="language of the sentence splitter (default: en)")
    build.add_argument("--ram", metavar="SIZE", help="refuse to start what would need more, e.g. 13GB")
    build.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    build.add_argument("--online", action="store_true", help="allow to download the encoder")
    build.add_argument("--dry-run", action="store_true", help="say what it would take, write nothing")

    search = commands.add_parser("search", help="nearest passages to a text")
    search.add_argument("index", metavar="INDEX")
    search.add_argument("text", metavar="TEXT")
    search.add_argument("-k", type=int, default=10, help="how many (default: 10)")
    search.add_argument("--encoder", help="where the index's encoder lies now (same weights)")
    search.add_argument("--json", action="store_true", help="print JSON")

    check = commands.add_parser(
        "check", help="is an index whole? what does a corpus lose?", epilog=_CHECK,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    checked = check.add_mutually_exclusive_group(required=True)
    checked.add_argument("index", metavar="INDEX", nargs="?", help="manifest, checksums, row counts, encoder")
    checked.add_argument("--corpus", metavar="CORPUS", help="numbers and formulae lost, duplicates, outliers")
    check.add_argument("--encoder", help="where the index's encoder lies now (same weights)")
    check.add_argument("--every", type=int, default=1, metavar="N", help="of a corpus, every Nth page alone")
    check.add_argument("--language", default="en", help="of a corpus (default: en)")
    check.add_argument("--json", type=Path, metavar="FILE", help="of a corpus, write what was found as JSON")
    return parser


def _build(arguments: argparse.Namespace) -> int:
    from kaggle_rag.limits import parse_size, show_size
    from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
    from kaggle_rag.retrieval.encoder import Encoder
    from kaggle_rag.retrieval.units import Unit
    from wiki_index.build import TITLE_TOKENS, Plan, build, forecast
    from wiki_index.corpus import Corpus

    unit = Unit.parse(arguments.unit)
    ram = parse_size(arguments.ram) if arguments.ram else None
    corpus = Corpus.open(arguments.corpus)
    encoder = Encoder(
        arguments.encoder or DEFAULT_ENCODER,
        device=arguments.device,
        online=arguments.online,
        window=unit.size + (TITLE_TOKENS if arguments.title else 0) if unit.kind == "window" else None,
    )
    plan = Plan(corpus, arguments.out, encoder, unit, arguments.language, arguments.title, ram)
    if arguments.dry_run:
        f = forecast(plan)
        print(
            f"{f.articles:,} articles, about {f.passages:,} passages; about {f.seconds / 60:.0f} minutes "
            f"on {encoder.device}, {show_size(f.disk)} of disk, {show_size(f.ram)} of RAM. "
            "Nothing was written."
        )
        return 0
    unfinished = plan.work.exists()
    usages = build(plan)
    for usage in usages:
        print(usage, file=sys.stderr)
    print(
        f"{arguments.out}: "
        + ("ready" if usages or unfinished else "was there already, whole; nothing to do")
    )
    return 0


def _search(arguments: argparse.Namespace) -> int:
    from kaggle_rag.retrieval.encoder import Encoder
    from kaggle_rag.retrieval.index import Index

    if arguments.k < 1:
        raise ConfigError(f"cannot search for {arguments.k} passages", where="-k", expected="1 or more")
    index = Index(arguments.index)
    encoder = Encoder.of_index(index.manifest.encoder, name=arguments.encoder)
    distances, rows = index.search(encoder.encode_queries([arguments.text]), arguments.k)
    hits = [
        {"distance": float(d), "row": int(r), **index.passages[int(r)]._asdict()}
        for d, r in zip(distances[0], rows[0])
    ]
    if arguments.json:
        print(json.dumps(hits, indent=2, ensure_ascii=False))
        return 0
    for hit in hits:
        print(f"{hit['distance']:.3f}  {hit['title']}  |  {hit['text']}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    if arguments.corpus:
        return _check_corpus(arguments)
    if arguments.json or arguments.every != 1:
        raise ConfigError("--json and --every are of a corpus", cure="name the corpus: check --corpus CORPUS")
    from kaggle_rag.retrieval.encoder import Encoder
    from kaggle_rag.retrieval.index import Index

    index = Index(arguments.index)
    card = index.manifest.encoder
    Encoder.of_index(card, name=arguments.encoder)
    print(
        f"{arguments.index}: whole. {index.manifest.articles:,} articles, {len(index):,} passages "
        f"({index.manifest.unit}), {card.dim} dimensions by {card.name} ({card.sha256[:12]}); "
        "checksums, row counts and encoder agree."
    )
    return 0


def _check_corpus(arguments: argparse.Namespace) -> int:
    from kaggle_rag.artifacts import write_json
    from wiki_index.corpus import Corpus
    from wiki_index.lint import as_json, as_table, lint

    if arguments.every < 1:
        raise ConfigError(
            f"cannot take every {arguments.every}th page", where="--every", expected="1 or more"
        )
    corpus = Corpus.open(arguments.corpus)
    linter = lint(corpus, arguments.language, arguments.every)
    print(as_table(linter))
    if arguments.json:
        write_json(arguments.json, as_json(linter, corpus, arguments.every))
    return 0


COMMANDS = {"build": _build, "search": _search, "check": _check}


def main() -> int:
    arguments = _parser().parse_args()
    return COMMANDS[arguments.command](arguments)


if __name__ == "__main__":
    sys.exit(run_program(main))
