"""``python -m wiki_index fit``: its flags, and from them the weights of the retrievers."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from pathlib import Path

from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.flags import ENCODER_HELP, count_of
from kaggle_rag.runtime.words import counted
from wiki_index.commands.shared import load_encoders, questions_of


def flags(fit: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    fit.add_argument("index", metavar="INDEX")
    fit.add_argument("--questions", type=Path, required=True, help="the labelled questions")
    fit.add_argument(
        "--gold", metavar="COLUMN", required=True, help="their column with the answering passage"
    )  # fmt: skip
    fit.add_argument(
        "--limit", type=count_of("questions"), metavar="N", help="use only the first N questions"
    )
    fit.add_argument("--encoder", action="append", metavar="FOLDER", help=ENCODER_HELP)
    fit.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from kaggle_rag.index.index import Index
    from wiki_index.fit import fit

    questions, gold = questions_of(arguments), _gold(arguments)
    index = Index(arguments.index)
    encoders = load_encoders(index, arguments)
    fitted = fit(index, encoders, questions, gold)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(fitted), indent=2))
        return 0
    print(f"{counted(fitted.questions, 'question')}; on the held-out half:")
    for name, (ndcg, recall) in fitted.held_out.items():
        print(f"  {name:20} nDCG@10 {ndcg:.4f}  recall@10 {recall:.4f}")
    print(f"fitted: nDCG@10 {fitted.gain} (95% interval) on that half")
    if fitted.refused:
        print(f"not recommended: {fitted.refused}; the setting below uses that retriever alone")
    print(f"\nfor solution.yaml:\ncontexts: {fitted.setting.yaml()}")
    return 0


def _gold(arguments: argparse.Namespace) -> list[str]:
    """The passage that answers each question."""
    from kaggle_rag.data.cells import text_of
    from kaggle_rag.data.columns import require_columns
    from kaggle_rag.data.tables import read_rows

    gold = []
    for number, row in enumerate(itertools.islice(read_rows(arguments.questions), arguments.limit), 1):
        where = f"{arguments.questions}, row {number}"
        require_columns(row, [arguments.gold], where, "the column that --gold names, in every row")
        text = text_of(row[arguments.gold], f"{where}, column {arguments.gold}") or ""
        if not text.strip():
            raise InputError(
                f"no passage in column {arguments.gold!r}",
                where=where,
                expected="one in every row",
                cure="fill the cell or drop the row",
            )
        gold.append(text)
    return gold
