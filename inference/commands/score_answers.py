"""``python -m inference score-answers``: its flags, and from them the figures."""

from __future__ import annotations

import argparse
from pathlib import Path

from kaggle_rag.runtime.flags import count_of
from kaggle_rag.runtime.report import show

EXAMPLES = """\
examples:
  python -m inference score-answers answers.jsonl test.csv
  python -m inference score-answers squad.parquet dev-v2.0.json --encoder roberta-large/ --layer 17 --idf

ANSWERS has id and answer. The share of tokens that are not from the context is measured where ANSWERS has
what was read (generate writes it), or with --contexts-file. docs/open-answers.md says what a figure is."""


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    parser.add_argument("answers", type=Path, metavar="ANSWERS")
    parser.add_argument("questions", type=Path, metavar="QUESTIONS", help="questions with their answers")
    parser.add_argument("--contexts-file", type=Path, help="the contexts that were read")
    parser.add_argument("--encoder", metavar="FOLDER", help="compute BERTScore with this model's tokens")
    parser.add_argument(
        "--layer", type=int, metavar="N", help="whose output it compares (0: embeddings; default: the last)"
    )
    parser.add_argument("--idf", action="store_true", help="weigh BERTScore's tokens by their rarity")
    parser.add_argument("--device", help="cpu or cuda (default: cuda if available)")
    parser.add_argument("--limit", type=count_of("questions"), metavar="N", help="score only the first N")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from inference.score_answers import BertSettings, score

    bert = BertSettings.of(arguments.encoder, arguments.layer, idf=arguments.idf, device=arguments.device)
    report = score(arguments.answers, arguments.questions, arguments.contexts_file, bert, arguments.limit)
    show(report, as_json=arguments.json)
    return 0
