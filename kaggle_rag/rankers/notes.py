"""What a trained ranker has to say about its answers: how its questions differed from its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kaggle_rag.models.answering.item import Item
from kaggle_rag.models.layouts import PRESETS
from kaggle_rag.models.writer import Writer
from kaggle_rag.rankers.base import Note
from kaggle_rag.runtime.words import counted

if TYPE_CHECKING:
    from kaggle_rag.rankers.trained import TrainedRanker


def notes_of(ranker: TrainedRanker, writer: Writer, items: Sequence[Item]) -> list[Note]:
    """What may make the answers worse or slower, once ``writer`` wrote the rows of these questions."""
    notes, name, card = [], ranker.folder.name, ranker.card
    wider = sum(item.places[-1] >= card.options for item in items)
    if card.form == "letters" and card.options and wider:
        most = counted(card.options, "option")
        text = f"more than the {most} that {name} was trained on: their further letters were never an answer"
        notes.append(Note(text, wider, "question has", "questions have"))
    if ranker.unpacked:
        notes.append(Note(f"{name} reads each option in a separate row: {ranker.unpacked}"))
    if writer.shortened:
        lost = f"lost words of the question: max_tokens {ranker.max_tokens} is too low"
        notes.append(Note(lost, writer.shortened, "row"))
    if ranker.bare and not ranker.template:
        notes.append(Note(
            f"{name} does not say which layout it was trained with, so that of its form "
            f"was used: first {writer.layout.first!r}, second {writer.layout.second!r}. Name it in "
            f"rankers.options.template: own (this one), {', '.join(PRESETS)}, or its texts"
        ))  # fmt: skip
    return notes
