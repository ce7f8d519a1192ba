"""Which passages support the right answer? What a ranker says when it reads each alone.

A passage is as good as the answer it leads to, whether or not it has the answer's words: labels for a
retriever or re-ranker without gold passages. Source: Shi et al. 2023, REPLUG, section 4.1,
https://arxiv.org/abs/2301.12652 (there a language model's likelihood of the answer, here a ranker's
probability of the right option).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kaggle_rag.data.cells import text_of
from kaggle_rag.data.contexts import Context, Evidence, QuestionContexts, Snippet, read_contexts
from kaggle_rag.data.questions import Questions, id_text, require_answers
from kaggle_rag.data.tables import read_rows
from kaggle_rag.rankers.base import Ranker
from kaggle_rag.runtime.console import overall
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.files import whole_file
from kaggle_rag.runtime.words import counted
from kaggle_rag.text.normalise import same
from training.retrieval.mining import Example
from training.retrieval.queries import RetrievalQuery
from training.retrieval.teacher import probability

# Questions whose passages are read together.
_AT_ONCE = 64


class Supported(NamedTuple):
    """A question's passages, the best first, each with the share of the best one's probability."""

    id: str
    passages: list[str]
    scores: list[float]


@dataclasses.dataclass(frozen=True)
class SupportReport:
    """How many questions have a passage that helps, and how many passages of them are listed."""

    questions: int
    helped: int
    passages: int

    def text(self) -> str:
        return (
            f"{self.helped:,} of {counted(self.questions, 'question has', 'questions have')} a passage that "
            f"makes the right option likelier; {counted(self.passages, 'passage is', 'passages are')} listed"
        )


def write_support(ranker: Ranker, questions_file: Path, contexts_file: Path, out: Path) -> SupportReport:
    """Write ``id, passage, score`` of the questions that a passage helps, as Parquet.

    Raises
    ------
    InputError : a question without an answer, or none that a passage helps.
    """
    questions = Questions.read(questions_file)
    require_answers(questions.answers)
    found = list(supported(ranker, questions, read_contexts(contexts_file, questions)))
    if not found:
        raise InputError(
            "no passage makes a right option likelier", where=contexts_file,
            expected="contexts that help this ranker", cure="use a stronger ranker, or other contexts",
        )  # fmt: skip
    rows = [
        {"id": each.id, "passage": passage, "score": score}
        for each in found
        for passage, score in zip(each.passages, each.scores)
    ]
    with whole_file(out) as aside:
        pq.write_table(pa.Table.from_pylist(rows), aside)
    return SupportReport(len(questions), len(found), len(rows))


def supported(
    ranker: Ranker, questions: Questions, contexts: Sequence[QuestionContexts]
) -> Iterator[Supported]:
    """The questions whose best passage makes the right option likelier than no passage does."""
    with overall(len(questions), "support", "question") as bar:
        for start in range(0, len(questions), _AT_ONCE):
            rows = range(start, min(start + _AT_ONCE, len(questions)))
            read = [contexts[row].evidence() for row in rows]
            yield from _of_batch(ranker, questions.take(rows), read)
            bar.update(len(rows))


def _of_batch(
    ranker: Ranker, questions: Questions, evidence: Sequence[Sequence[Evidence]]
) -> Iterator[Supported]:
    # Each question without any passage, then with each of its own.
    asked = [row for row, pieces in enumerate(evidence) for _ in range(1 + len(pieces))]
    alone = [each for pieces in evidence for each in (_alone(None), *map(_alone, pieces))]
    table = ranker.probabilities(questions.take(asked), alone)
    right = iter(table[np.arange(len(asked)), questions.answers[asked]].tolist())
    for row, pieces in enumerate(evidence):
        without, *values = itertools.islice(right, 1 + len(pieces))
        order = np.argsort([-value for value in values], kind="stable")
        if not len(order) or not (best := values[order[0]]) > without:
            continue
        texts = {pieces[place].text: min(1.0, values[place] / best) for place in reversed(order)}
        best_first = sorted(texts, key=lambda text: -texts[text])
        yield Supported(id_text(questions.ids[row]), best_first, [texts[text] for text in best_first])


def _alone(piece: Evidence | None) -> QuestionContexts:
    if piece is None:
        return QuestionContexts(Context((), ()), ())
    return QuestionContexts(Context((Snippet("", piece.text, piece.score, (piece.row,)),), (piece,)), ())


def read_support(path: Path) -> dict[str, list[str]]:
    """The passages of each question of a table of `write_support`, the best first.

    Raises
    ------
    InputError : a column is missing, a passage is empty, or a score is none from 0 to 1.
    """
    found: dict[str, list[tuple[float, str]]] = {}
    for number, row in enumerate(read_rows(path), 1):
        if missing := {"id", "passage", "score"} - row.keys():
            raise InputError(
                f"column {min(missing)!r} is missing", where=f"{path}, row {number}",
                expected="id, passage, score", cure="make the table: python -m training support",
            )  # fmt: skip
        where = f"{path}, row {number}, column"
        text = text_of(row["passage"], f"{where} passage") or ""
        if not text.strip():
            raise InputError("the passage is empty", where=f"{where} passage", expected="a text")
        score = probability(row["score"], f"{where} score")
        found.setdefault(id_text(row["id"]), []).append((score, text))
    return {key: [text for _, text in sorted(pairs, key=lambda p: -p[0])] for key, pairs in found.items()}


def with_support(
    questions: Sequence[RetrievalQuery], found: Mapping[str, Sequence[str]], path: Path, excluded: set[str]
) -> list[RetrievalQuery]:
    """The questions that the table has, each with its best passage as the positive.

    ``excluded`` are the ids of questions that are not to be trained on.

    Raises
    ------
    InputError : it has none of them.
    """
    kept = [dataclasses.replace(each, positive=found[each.id][0]) for each in questions if each.id in found]
    if kept:
        return kept
    if left_out := sum(key in excluded for key in found):
        raise InputError(
            "of the questions to train on, this table has only some that are left out "
            f"({left_out:,}): they repeat others", where=path,
            expected="questions that neither exclude nor validation repeats",
            cure="use another validation or exclude, or a table of more questions",
        )  # fmt: skip
    has, asked = next(iter(found), "none"), next((each.id for each in questions), "none")
    raise InputError(
        f"none of its {counted(len(found), 'id')} (such as {has!r}) is among the ids of the "
        f"{counted(len(questions), 'question')} (such as {asked!r})", where=path,
        expected="a table made of the same questions file",
        cure="make it: python -m training support --questions QUESTIONS --contexts-file CONTEXTS --out TABLE",
    )  # fmt: skip


def with_others(
    examples: Sequence[Example], found: Mapping[str, Sequence[str]], count: int
) -> list[Example]:
    """The examples with the table's other passages before the mined ones, ``count`` in all."""
    return [
        dataclasses.replace(each, negatives=_distinct(each, found.get(each.id, ())[1:])[:count])
        for each in examples
    ]


def _distinct(example: Example, others: Sequence[str]) -> tuple[str, ...]:
    """These passages and the example's negatives, each once, without the positive in another spelling."""
    first: dict[str, str] = {}
    for text in (*others, *example.negatives):
        first.setdefault(same(text), text)
    first.pop(same(example.positive), None)
    return tuple(first.values())
