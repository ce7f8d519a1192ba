"""``python -m wiki_index measure``: its flags, and from them a comparison of kinds of index."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from kaggle_rag.index.kinds import KINDS, kind_of
from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.flags import count_of
from kaggle_rag.runtime.report import show
from wiki_index.commands.shared import RECALL, questions_of, require_passages, require_recall


def flags(measure: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    measure.add_argument("index", metavar="INDEX")
    measure.add_argument(
        "--questions", type=Path, help="if they have answers, MAP@3 too (default: halves of passages)"
    )
    measure.add_argument(
        "--kinds", help="separated by commas, or by semicolons if FAISS's descriptions are among them "
        "(default: the index's own and all smaller ones)"
    )
    measure.add_argument("--recall", type=float, default=RECALL, help="target recall@10 (default: 0.98)")
    measure.add_argument("-k", type=int, default=10, help="passages per query (default: 10)")
    measure.add_argument(
        "--limit", type=count_of("questions"), metavar="N", help="ask only the first N questions"
    )
    measure.add_argument("--encoder", help="current location of the index's encoder (same weights)")
    measure.add_argument(
        "--folder", type=Path, help="scratch space for building kinds (default: the temporary folder)"
    )
    measure.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers as JSON")


def run(arguments: argparse.Namespace) -> int:
    from kaggle_rag.index.index import Index
    from kaggle_rag.runtime.files import write_json
    from wiki_index.measure import Meter

    require_recall(arguments.recall)
    require_passages(arguments.k)
    for kind in _kinds(arguments.kinds):
        kind_of(kind, where="--kinds")
    if arguments.limit and not arguments.questions:
        raise ConfigError("--limit applies to questions, and none are given", cure="add --questions")
    questions = questions_of(arguments) if arguments.questions else None
    index = Index(arguments.index)
    own = index.default.card.kind
    smaller = list(KINDS)[list(KINDS).index(own) :] if own in KINDS else [own]
    kinds = _kinds(arguments.kinds) or smaller
    if not arguments.kinds and own in KINDS and kinds != list(KINDS):
        larger = ", ".join(kind for kind in KINDS if kind not in kinds)
        note = f"note: {larger} not measured: larger than the index's own {own}; --kinds selects any kind"
        print(note, file=sys.stderr)
    encoder = index.encoder(location=arguments.encoder)
    folder = arguments.folder or Path(tempfile.gettempdir())
    report = Meter(index, encoder, questions, arguments.k, folder).report(kinds, arguments.recall)
    show(report)
    if arguments.json:
        write_json(arguments.json, report.as_json())
    return 0


def _kinds(text: str | None) -> list[str]:
    """Kinds separated by commas, or by semicolons where descriptions, which hold commas, are among them."""
    if not text:
        return []
    described = ";" in text or text[:1].isupper()
    return [each.strip() for each in text.split(";" if described else ",")]
