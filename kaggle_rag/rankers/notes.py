"""What a trained ranker has to say about its answers: how its questions differed from its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kaggle_rag.models.answering.item import Item
from kaggle_rag.models.layouts import PRESETS
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.words import counted

if TYPE_CHECKING:
    from kaggle_rag.rankers.trained import TrainedRanker


def notes_of(ranker: TrainedRanker, writer: Writer, items: Sequence[Item]) -> list[str]:
    """A line for each thing that may make the answers worse or slower, once ``writer`` wrote the rows."""
    notes, name, card = [], ranker.folder.name, ranker.card
    widest = 1 + max(item.places[-1] for item in items)
    if card.form == "letters" and 0 < card.options < widest:
        notes.append(
            f"{name} was trained on questions of at most {counted(card.options, 'option')}, and is "
            f"asked some of {widest}: their further letters were never an answer"
        )
    if ranker.unpacked:
        notes.append(f"{name} reads each option in a separate row: {ranker.unpacked}")
    if writer.shortened:
        notes.append(
            f"{counted(writer.shortened, 'row')} lost words of the question: "
            f"max_tokens {ranker.max_tokens} is too low"
        )
    if ranker.bare and not ranker.template:
        notes.append(
            f"{name} does not say which layout it was trained with, so that of its form "
            f"was used: first {writer.layout.first!r}, second {writer.layout.second!r}. Name it in "
            f"rankers.options.template: own (this one), {', '.join(PRESETS)}, or its texts"
        )
    return notes
