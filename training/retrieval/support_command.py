"""``python -m training support``: its flags, and from them the table."""

from __future__ import annotations

import argparse
from pathlib import Path

from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.files import require_new

EXAMPLES = """\
examples:
  python -m training support --questions train.csv --contexts-file train.parquet --ranker deberta/ \\
      --out support.parquet
  python -m training reranker --questions train.csv --index index/ --supported support.parquet \\
      --loss listnet --out my-reranker/

The ranker reads each retrieved passage of a question alone. A passage is as good as the right option is
likely then; questions that none helps are left out. Take a ranker that was not trained on these questions,
such as one of another fold; without --ranker, the training-free one is asked."""


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    parser.add_argument("--questions", type=Path, required=True, metavar="PATH", help="with answers")
    parser.add_argument(
        "--contexts-file", type=Path, required=True, metavar="PATH", help="their contexts.parquet"
    )
    parser.add_argument("--ranker", metavar="FOLDER", help="a trained one (default: the training-free one)")
    parser.add_argument("--out", type=Path, required=True, metavar="PARQUET", help="the table to write")
    parser.add_argument("--device", help="cpu or cuda (default: cuda if available)")


def run(arguments: argparse.Namespace) -> int:
    from kaggle_rag.data.questions import Questions
    from kaggle_rag.index.encoder import Encoder
    from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
    from kaggle_rag.rankers.registry import make_ranker
    from kaggle_rag.rankers.seen import seen_by
    from kaggle_rag.runtime.console import say
    from training.retrieval.support import write_support

    if arguments.out.suffix != ".parquet":
        raise ConfigError("not a .parquet file", where=f"--out {arguments.out}", cure="name it NAME.parquet")
    require_new(arguments.out, "a file")
    device = arguments.device
    if arguments.ranker:
        options = {"folder": arguments.ranker, **({"device": device} if device else {})}
        made = make_ranker("trained", options)
    else:
        made = make_ranker("similarity", {}, encoder=Encoder(DEFAULT_ENCODER, device=device), index=None)
    if arguments.ranker:
        for note in seen_by([arguments.ranker], Questions.read(arguments.questions)).notes():
            say(f"note: {note}, and so is what it says of their passages")
    with made as ranker:
        found = write_support(ranker, arguments.questions, arguments.contexts_file, arguments.out)
    print(found.text())
    return 0
