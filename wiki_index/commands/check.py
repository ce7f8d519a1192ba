"""``python -m wiki_index check``: its flags, and from them an index verified, or what a corpus loses."""

from __future__ import annotations

import argparse
from pathlib import Path

from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.flags import ENCODER_HELP
from kaggle_rag.runtime.words import counted
from wiki_index.commands.shared import (
    language_code,
    load_encoders,
    note_files,
    show_other_kinds,
    skip_others_flag,
)

EXAMPLES = """\
examples:
  python -m wiki_index check index/
  python -m wiki_index check --corpus enwiki-pages-articles.xml.bz2 --every 100 --json corpus.json

--corpus compares the sentences that an index would hold with a rougher reading of the source: it
reports lost numbers and formulae, and counts holes ("a mass of , where") left by content that was
lost before the corpus was made."""


def flags(check: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    checked = check.add_mutually_exclusive_group(required=True)
    checked.add_argument("index", metavar="INDEX", nargs="?", help="manifest, checksums, row counts, encoder")
    checked.add_argument("--corpus", metavar="CORPUS", help="numbers and formulae lost, duplicates, outliers")
    check.add_argument("--encoder", action="append", metavar="FOLDER", help=ENCODER_HELP)
    check.add_argument("--every", type=int, default=1, metavar="N", help="check only every Nth corpus page")
    check.add_argument("--language", type=language_code, default="en", help="corpus language (default: en)")
    skip_others_flag(check)
    check.add_argument("--json", type=Path, metavar="FILE", help="write the findings on a corpus as JSON")


def run(arguments: argparse.Namespace) -> int:
    if arguments.corpus:
        if arguments.encoder:
            raise ConfigError("--encoder applies to an index", cure="leave it out of check --corpus")
        return _check_corpus(arguments)
    if arguments.json or arguments.every != 1 or arguments.language != "en" or arguments.skip_others:
        raise ConfigError(
            "--json, --every, --language and --skip-others apply to a corpus",
            cure="pass the corpus: check --corpus CORPUS",
        )
    from kaggle_rag.index.index import Index

    index = Index(arguments.index, verify_content=True)
    manifest = index.manifest
    load_encoders(index, arguments)
    for dense in index.dense.values():
        dense.require_agreement()
    print(
        f"{arguments.index}: intact. {counted(manifest.articles, 'article')}, "
        f"{counted(len(index), 'passage')} ({manifest.unit}); checksums, row counts and encoders agree."
    )
    for name, dense in index.dense.items():
        card = dense.card
        print(
            f"  {name}: {card.encoder.dim} dimensions by {card.encoder.name} ({card.encoder.sha256[:12]}), "
            f"{card.kind} ({card.factory}), vectors in {card.vectors}"
            + (f", nprobe {card.nprobe}, depth {card.depth}, recall@10 {card.recall}" if card.queries else "")
        )
    show_other_kinds(manifest)
    if manifest.lexical_rows:
        print(f"  bm25: {len(manifest.lexical_rows)} part(s)")
    return 0


def _check_corpus(arguments: argparse.Namespace) -> int:
    from kaggle_rag.runtime.files import write_json
    from wiki_index.check.lint import as_json, as_table, lint
    from wiki_index.corpus import Corpus

    if arguments.every < 1:
        raise ConfigError(
            f"cannot take every {arguments.every}th page", where="--every", expected="1 or more"
        )
    corpus = Corpus.open(arguments.corpus, skip_others=arguments.skip_others)
    note_files(corpus)
    linter = lint(corpus, arguments.language, arguments.every)
    print(as_table(linter))
    if arguments.json:
        write_json(arguments.json, as_json(linter, corpus, arguments.every))
    return 0
