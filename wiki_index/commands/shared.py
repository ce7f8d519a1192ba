"""What several commands share: flags, checks of their values, and what they print."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING

from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.flags import encoders_of

if TYPE_CHECKING:
    from kaggle_rag.data.questions import Questions
    from kaggle_rag.index.encoder import Encoder
    from kaggle_rag.index.index import Index
    from kaggle_rag.index.manifest import Manifest
    from wiki_index.corpus import Corpus

# Of a compressed index, relative to exact search.
RECALL = 0.98


def skip_others_flag(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--skip-others", action="store_true",
        help="skip tables of a folder that lack columns title and text (default: refuse them)",
    )  # fmt: skip


def language_code(text: str) -> str:
    # The splitter accepts any word, and falls back to English rules.
    if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a language code such as en, de, zh")
    return text


def require_recall(recall: float) -> None:
    if not 0 < recall <= 1:
        raise ConfigError(f"{recall} is not a recall", where="--recall", expected="above 0, at most 1")


def require_passages(k: int) -> None:
    if k < 1:
        raise ConfigError(f"cannot search for {k} passages", where="-k", expected="1 or more")


def questions_of(arguments: argparse.Namespace) -> Questions:
    from kaggle_rag.data.questions import Questions

    questions = Questions.read(arguments.questions)
    return questions.take(range(min(arguments.limit or len(questions), len(questions))))


def load_encoders(index: Index, arguments: argparse.Namespace) -> dict[str, Encoder]:
    """The encoders of all dense retrievers, from their current locations."""
    default, others = encoders_of(arguments.encoder)
    locations = {**others, **({index.manifest.default: default} if default else {})}
    if unknown := [name for name in locations if name not in index.dense]:
        raise ConfigError(
            f"no retriever {unknown[0]!r} in this index", where="--encoder",
            expected="one of " + ", ".join(index.dense),
        )  # fmt: skip
    return {name: index.encoder(name, location=locations.get(name)) for name in index.dense}


def note_files(corpus: Corpus) -> None:
    """Report the files of a folder that are not read and those that seem to be missing."""
    if corpus.aside:
        names = ", ".join(str(file.relative_to(corpus.root)) for file in corpus.aside[:3])
        print(
            f"{len(corpus.aside)} file(s) next to the articles are not read, such as {names}",
            file=sys.stderr,
        )
    if corpus.gaps:
        print(
            f"{len(corpus.gaps)} numbered file(s) seem to be missing, such as {corpus.gaps[0]}",
            file=sys.stderr,
        )


def show_other_kinds(manifest: Manifest) -> None:
    """Repeat, after the progress bars, why an index is of a different kind than requested."""
    from kaggle_rag.index.kinds import unfit

    asked = manifest.asked["kind"]
    for name, card in manifest.dense.items():
        if asked and card.kind != asked:
            reason = unfit(asked, manifest.passages, card.encoder.dim)
            print(f"  {name}: {card.kind} instead of {asked}: {reason}")
