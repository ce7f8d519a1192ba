"""``python -m wiki_index search``: its flags, and from them the nearest passages."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from kaggle_rag.runtime.errors import ConfigError
from wiki_index.commands.shared import require_passages

if TYPE_CHECKING:
    from kaggle_rag.index.index import Index


def flags(search: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    search.add_argument("index", metavar="INDEX")
    search.add_argument("text", metavar="TEXT")
    search.add_argument("-k", type=int, default=10, help="number of passages (default: 10)")
    search.add_argument("--exact", action="store_true", help="search all stored vectors, not the FAISS index")
    search.add_argument(
        "--retriever", metavar="NAME", help="a dense retriever of the index, or bm25 (default: the first)"
    )  # fmt: skip
    search.add_argument("--encoder", help="current location of the index's encoder (same weights)")
    search.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from kaggle_rag.index.index import Index

    require_passages(arguments.k)
    if not arguments.text.strip():
        raise ConfigError("nothing to search for", where="TEXT", expected="a question or some words")
    if arguments.encoder and arguments.retriever == "bm25":
        raise ConfigError("bm25 uses no encoder", where="--encoder", cure="leave --encoder out")
    if arguments.exact and arguments.retriever == "bm25":
        raise ConfigError("bm25 has no vectors to search", where="--exact", cure="leave --exact out")
    index = Index(arguments.index)
    measure, scores, rows = _run_query(index, arguments)
    hits = [
        {measure: float(score), "row": int(row), **index.passages[int(row)]._asdict()}
        for score, row in zip(scores, rows)
        if row >= 0
    ]
    if arguments.json:
        print(json.dumps(hits, indent=2, ensure_ascii=False))
        return 0
    if not hits:
        print("no passage contains any of these words", file=sys.stderr)
    else:
        scale = "squared distance: 0 is the same text" if measure == "distance" else "score: higher is better"
        print(f"({scale})  title  |  text")
    for hit in hits:
        print(f"{hit[measure]:.3f}  {hit['title']}  |  {hit['text']}")
    return 0


def _run_query(index: Index, arguments: argparse.Namespace) -> tuple[str, Any, Any]:
    """The name of the measure, its values, and the rows of the best passages."""
    name = arguments.retriever or index.manifest.default
    if name == "bm25":
        scores, rows = index.lexical().search([arguments.text], arguments.k)
        return "score", scores[0], rows[0]
    if name not in index.dense:
        raise ConfigError(
            f"no retriever {name!r} in this index",
            where="--retriever",
            expected="one of " + ", ".join([*index.dense, "bm25"]),
        )
    dense = index.dense[name]
    encoder = index.encoder(name, location=arguments.encoder)
    search = dense.search_exact if arguments.exact else dense.search
    distances, rows = search(encoder.encode_queries([arguments.text]), arguments.k)
    return "distance", distances[0], rows[0]
