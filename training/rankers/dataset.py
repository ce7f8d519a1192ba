"""Questions for training and evaluation, and their features in each epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kaggle_rag.data.contexts import QuestionContexts, read_contexts
from kaggle_rag.data.questions import LETTERS, NO_ANSWER, Questions
from kaggle_rag.models.answering.item import Feature, Item
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.words import counted
from training.rankers.harder import Changes, Lent
from training.rankers.supervision import ANSWERS_ALONE, Supervision

if TYPE_CHECKING:
    from kaggle_rag.models.answering.base import AnswerForm


@dataclasses.dataclass(frozen=True)
class RankerDataset:
    """Questions with their answers and contexts (``None`` if none are read), and what is learnt beside."""

    questions: Questions
    contexts: list[QuestionContexts] | None
    supervision: Supervision = ANSWERS_ALONE

    @classmethod
    def read(cls, questions: Path, contexts: Path | None, limit: int | None = None) -> RankerDataset:
        """Read both files, or only their first ``limit`` questions.

        Raises
        ------
        InputError : a question without an answer, or all answers the same letter.
        """
        table = Questions.read(questions)
        table = table.take(range(min(limit or len(table), len(table))))
        if missing := [str(key) for key, answer in zip(table.ids, table.answers) if answer == NO_ANSWER]:
            raise InputError(
                f"{len(missing):,} of {counted(len(table), 'question has', 'questions have')} no answer "
                f"(id {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''})",
                where=f"{questions}, column answer",
                expected="the letter of the right option in every row",
                cure="leave these rows out"
                if len(missing) < len(table)
                else "use the train file, whose column is called answer; test files have none",
            )
        if len(table) > 1 and len(set(table.answers.tolist())) == 1:
            raise InputError(
                f"all {counted(len(table), 'answer is', 'answers are')} {LETTERS[int(table.answers[0])]}: "
                "there is nothing to learn",
                where=f"{questions}, column answer",
                cure="shuffle the options, or check how the file was made",
            )
        return cls(table, read_contexts(contexts, table) if contexts else None)

    def unread(self) -> str:
        """A note if the questions bring contexts that nothing reads, otherwise an empty string."""
        brought = sum(context is not None for context in self.questions.contexts)
        if not brought or self.contexts is not None:
            return ""
        return (
            f"note: {counted(brought, 'question brings', 'questions bring')} a context, which is not read "
            "without --contexts-file; create that file with python -m inference contexts, which keeps it"
        )

    def __len__(self) -> int:
        return len(self.questions)

    def take(self, rows: Sequence[int] | np.ndarray[Any, Any]) -> RankerDataset:
        chosen = [int(row) for row in rows]
        contexts = [self.contexts[row] for row in chosen] if self.contexts is not None else None
        return RankerDataset(self.questions.take(chosen), contexts, self.supervision.take(chosen))

    def supervised(self, **kinds: Any) -> RankerDataset:
        """The same questions with these kinds of `training.rankers.supervision.Supervision` added."""
        return dataclasses.replace(self, supervision=dataclasses.replace(self.supervision, **kinds))

    def items(self, snippets: int, form: AnswerForm) -> list[Item]:
        contexts = self.contexts or repeat(None)
        return [Item.of(*row, snippets, passages=form.embeds) for row in zip(self.questions, contexts)]


class EpochQuestions:
    """The features of the questions as the current epoch sees them.

    A question is encoded when it is accessed, with the changes of the epoch. A resumed run sees what an
    uninterrupted one would, because nothing is drawn from a running generator.

    Parameters
    ----------
    weaker : the same questions with weaker contexts; ``None``: there are none.
    articles : what each question is about, see `training.rankers.harder.Lent`; empty: unknown.
    numbered : say in each feature which question it is, -1 where the epoch made it another one.
    """

    def __init__(
        self,
        items: Sequence[Item],
        form: AnswerForm,
        writer: Writer,
        changes: Changes,
        *,
        weaker: Sequence[Item] | None = None,
        articles: Sequence[str | None] = (),
        supervision: Supervision = ANSWERS_ALONE,
        numbered: bool = False,
    ) -> None:
        self.items, self.weaker, self.supervision = items, weaker, supervision
        self.form, self.writer, self.changes, self.numbered = form, writer, changes, numbered
        self.lent = Lent(items, weaker, articles)
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> Feature:
        weaker = self.weaker[row] if self.weaker is not None else None
        made = self.changes.made(self.items[row], weaker, self.lent, row, self.epoch)
        feature = self.form.encode(self.writer, made.item)
        if self.numbered:
            feature["number"] = row if made.whole else -1
        feature.update(self.supervision.features(row, self.items[row], made))
        return feature
