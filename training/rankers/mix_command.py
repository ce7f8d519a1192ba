"""``python -m training mix``: its flags, and from them one set of several."""

from __future__ import annotations

import argparse
from pathlib import Path

from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.flags import note_idle, seed_number
from kaggle_rag.runtime.words import counted

EXAMPLES = """\
examples:
  python -m training mix openbookqa.csv sciq.csv --out all.csv
  python -m training mix openbookqa.csv sciq.csv --contexts openbookqa.parquet sciq.parquet \\
      --out all.csv --contexts-out all.parquet --most 5000 --temperature 0.5 --exclude dev.csv

Several question sets as one, for python -m training multiple-choice: near-duplicates between them are left
out, and with --most small sets get a larger part than their size. Rows are called SET/ID; columns other than
those of questions are left out."""

# Beyond it, the largest set is taken before any other is.
_HOTTEST = 10


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    parser.add_argument("sets", type=Path, nargs="+", metavar="QUESTIONS", help="questions with answers")
    parser.add_argument(
        "--contexts", type=Path, nargs="+", default=[], metavar="FILE", help="their contexts, in their order"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="table to write")
    parser.add_argument("--contexts-out", type=Path, metavar="FILE", help="contexts.parquet to write")
    parser.add_argument(
        "--temperature", type=float, default=0.5, metavar="T",
        help="a set of n questions counts n ** T: 1 as it is, 0 as any other (default: 0.5)",
    )  # fmt: skip
    parser.add_argument("--most", type=int, metavar="N", help="questions in all (default: all of them)")
    parser.add_argument(
        "--exclude", type=Path, nargs="+", default=[], metavar="FILE",
        help="question files whose near-duplicates are left out",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed_number, default=0, help="of the draw (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    from training.rankers.mix import QuestionSet, mix_sets

    sets, contexts = arguments.sets, arguments.contexts
    # nan is in no range.
    if not 0 <= arguments.temperature <= _HOTTEST:
        raise ConfigError(
            f"out of range: {arguments.temperature}", where="--temperature", expected=f"0 to {_HOTTEST}"
        )
    if arguments.most is not None and arguments.most < len(sets):
        raise ConfigError(
            f"out of range: {arguments.most}", where="--most", expected="at least a question of each set"
        )
    if contexts and len(contexts) != len(sets):
        raise ConfigError(
            f"{counted(len(contexts), 'contexts file')} for {counted(len(sets), 'set')}", where="--contexts"
        )
    if arguments.most is None:
        note_idle(arguments, ("temperature", "seed"), "without --most: every question is taken")
    pairs = [QuestionSet(path, contexts[n] if contexts else None) for n, path in enumerate(sets)]
    found = mix_sets(
        pairs, arguments.out, arguments.contexts_out, temperature=arguments.temperature, most=arguments.most,
        exclude=arguments.exclude, seed=arguments.seed,
    )  # fmt: skip
    print(found.text())
    return 0
