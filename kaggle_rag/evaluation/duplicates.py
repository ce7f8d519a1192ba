"""Questions that are the same, or nearly: within one table, and between two."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.questions import NO_ANSWER, Questions
from kaggle_rag.evaluation.nearness import Near, WordSets, near_by_vectors, near_by_words, plain, words
from kaggle_rag.runtime.errors import InputError

# Why a pair was found, the strongest reason first; the texts that reports print.
REASONS = {
    "same": "prompt and options are the same",
    "swapped": "the same prompt and options in another order",
    "words": "prompt and options have nearly the same words",
    "prompt": "the prompts have nearly the same words, the options differ",
    "vectors": "their embeddings are nearly the same",
}
_STRENGTH = {reason: rank for rank, reason in enumerate(REASONS)}


class Pair(NamedTuple):
    """Two near-duplicates: rows, why (a key of ``REASONS``), similarity up to 1.

    ``contradicts``: the prompts are the same, and an option that is right in one row is wrong in the
    other. Reworded prompts never count as contradicting: the one changed word may be "not".
    """

    left: int
    right: int
    reason: str
    similarity: float
    contradicts: bool


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """How similar counts as nearly the same; chosen by reading pairs (docs/log.md).

    Parameters
    ----------
    words : weighted Jaccard similarity of prompt and options together.
    prompt : the same for the prompts alone, if the prompt is not a stock phrase.
    stock : a prompt is a stock phrase ("Which of these is true?") when its idf weights sum to less
        than ``stock * ln(n)``. Were words independent, ``2 ln(n)`` would make a chance pair unlikely in
        the whole table; they are not, and stock phrases of 2.6 were seen.
    cosine : of embeddings; chosen for all-MiniLM-L6-v2. Encoders of the e5 and bge families give
        unrelated texts 0.7 or more, and need a higher one.
    """

    words: float = 0.6
    prompt: float = 0.8
    stock: float = 3.0
    cosine: float = 0.9


DEFAULT = Thresholds()


def embedding_texts(questions: Questions) -> list[str]:
    """The text of each question for an encoder: the prompt, and the options in alphabetical order.

    Sorted, so that swapped options give the same text.
    """
    return [
        " ".join([prompt, *sorted(option for option in options if option is not None)])
        for prompt, options in zip(questions.prompts, questions.options)
    ]


def find_duplicates(
    questions: Questions, vectors: npt.ArrayLike | None = None, thresholds: Thresholds = DEFAULT
) -> list[Pair]:
    """Near-duplicates within one table, ``left < right``, each pair once with its strongest reason.

    Each of ``m`` copies of a question is paired with the first copy (that has an answer) and with the
    first of each other answer, not with every other: the pairs grow linearly with the copies, groups
    stay whole, and every contradicted row is in a pair that says so.

    Parameters
    ----------
    vectors : ``(n, d)`` embeddings of `embedding_texts`, or ``None`` to use words alone.

    Raises
    ------
    InputError : the vectors do not fit the questions.
    ConfigError : a threshold finds hundreds of pairs per question.
    """
    _check_vectors(questions, vectors)
    return _Search(questions, None, thresholds).pairs(vectors, None)


def find_shared(
    left: Questions,
    right: Questions,
    vectors: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    thresholds: Thresholds = DEFAULT,
) -> list[Pair]:
    """Near-duplicates between two tables: ``Pair.left`` is a row of ``left``, ``Pair.right`` of ``right``.

    Each copy within a table is paired with the first copy in the other: every repeated row is in the
    list.

    Parameters
    ----------
    vectors : ``(n, d)`` and ``(m, d)`` embeddings of the two tables by one encoder.

    Raises
    ------
    InputError, ConfigError : as `find_duplicates`.
    """
    left_vectors, right_vectors = vectors if vectors else (None, None)
    _check_vectors(left, left_vectors)
    _check_vectors(right, right_vectors)
    return _Search(left, right, thresholds).pairs(left_vectors, right_vectors)


def _check_vectors(questions: Questions, vectors: npt.ArrayLike | None) -> None:
    if vectors is not None and len(np.asarray(vectors)) != len(questions):
        raise InputError(
            f"{len(np.asarray(vectors)):,} vectors for {len(questions):,} questions",
            expected="one vector per question",
        )


class _Search:
    """One table, or two concatenated; row numbers run through both."""

    def __init__(self, left: Questions, right: Questions | None, thresholds: Thresholds) -> None:
        self.tables = (left,) if right is None else (left, right)
        self.split = None if right is None else len(left)
        self.thresholds = thresholds
        self.prompts = [plain(prompt) for table in self.tables for prompt in table.prompts]
        self.options = [
            [None if option is None else plain(option) for option in row]
            for table in self.tables
            for row in table.options
        ]
        self.answers = np.concatenate([table.answers for table in self.tables])
        self.copies = self._copies()

    def pairs(
        self, left_vectors: npt.ArrayLike | None, right_vectors: npt.ArrayLike | None
    ) -> list[Pair]:
        """All pairs, in the order of their rows; the right table's rows count from 0 again."""
        best: dict[tuple[int, int], tuple[int, float]] = {}
        for left, right, reason, similarity in self._candidates(left_vectors, right_vectors):
            known = best.get((left, right))
            if known is None or _STRENGTH[reason] < known[0]:
                best[left, right] = (_STRENGTH[reason], similarity)
        shift = self.split or 0
        names = list(REASONS)
        return [
            Pair(left, right - shift, names[strength], similarity, self._contradict(left, right))
            for (left, right), (strength, similarity) in sorted(best.items())
        ]

    def _candidates(
        self, left_vectors: npt.ArrayLike | None, right_vectors: npt.ArrayLike | None
    ) -> Iterator[tuple[int, int, str, float]]:
        for rows in self.copies.values():
            for left, right in self._star(rows):
                same = self.options[left] == self.options[right]
                yield left, right, "same" if same else "swapped", 1.0
        # Copies were already found by their text: the searches compare one of each.
        firsts = self._firsts()
        cut = None if self.split is None else int(np.searchsorted(firsts, self.split))
        near: dict[str, Near] = {"words": self._by_words(firsts, cut), "prompt": self._by_prompt(firsts, cut)}
        if left_vectors is not None:
            lefts = np.asarray(left_vectors)[firsts[:cut]]
            rights = None if cut is None else np.asarray(right_vectors)[firsts[cut:] - (self.split or 0)]
            hits = near_by_vectors(lefts, rights, self.thresholds.cosine)
            near["vectors"] = Near(hits.left, hits.right + (cut or 0), hits.similarity)
        for reason, (lefts, rights, similarities) in near.items():
            for left, right, similarity in zip(firsts[lefts], firsts[rights], similarities):
                for pair in self._spread(int(left), int(right)):
                    yield *pair, reason, float(similarity)

    def _by_words(self, firsts: npt.NDArray[np.int64], cut: int | None) -> Near:
        rows = [words(" ".join([self.prompts[i], *[o for o in self.options[i] if o]])) for i in firsts]
        return near_by_words(WordSets(rows), self.thresholds.words, cut)

    def _by_prompt(self, firsts: npt.NDArray[np.int64], cut: int | None) -> Near:
        sets = WordSets([words(self.prompts[i]) for i in firsts])
        distinctive = np.flatnonzero(sets.totals >= self.thresholds.stock * np.log(max(2, len(firsts))))
        # Stock phrases are left out before the search: thousands of them would all pair with each other.
        inside = None if cut is None else int(np.searchsorted(distinctive, cut))
        near = near_by_words(sets.take(distinctive), self.thresholds.prompt, inside)
        return Near(distinctive[near.left], distinctive[near.right], near.similarity)

    def _copies(self) -> dict[tuple[str, frozenset[str | None]], list[int]]:
        """Rows with the same prompt and the same set of options, answered ones first."""
        copies: dict[tuple[str, frozenset[str | None]], list[int]] = {}
        for row, (prompt, options) in enumerate(zip(self.prompts, self.options)):
            copies.setdefault((prompt, frozenset(options) - {None}), []).append(row)
        for rows in copies.values():
            rows.sort(key=lambda row: (self.answers[row] == NO_ANSWER, row))
        return copies

    def _firsts(self) -> npt.NDArray[np.int64]:
        """The first copy of each question, in each table, ascending."""
        firsts = {side[0] for rows in self.copies.values() for side in self._sides(rows) if side}
        return np.array(sorted(firsts), dtype=np.int64)

    def _sides(self, rows: Sequence[int]) -> tuple[list[int], ...]:
        if self.split is None:
            return (list(rows),)
        return [r for r in rows if r < self.split], [r for r in rows if r >= self.split]

    def _star(self, rows: Sequence[int]) -> set[tuple[int, int]]:
        """Pairs of each copy with the first one, and with the first of each other answer (across tables)."""
        lefts, *others = self._sides(rows)
        rights = others[0] if others else lefts
        links = {
            (head, row) for head in self._heads(lefts) for row in rights if self._linked(head, row, lefts)
        }
        links |= {
            (row, head) for head in self._heads(rights) for row in lefts if self._linked(head, row, rights)
        }
        return {(min(link), max(link)) for link in links if link[0] != link[1]}

    def _heads(self, rows: Sequence[int]) -> list[int]:
        """The first row of each right option."""
        heads: dict[str | None, int] = {}
        for row in rows:
            heads.setdefault(self._right(row), row)
        return list(heads.values())

    def _linked(self, head: int, row: int, rows: Sequence[int]) -> bool:
        rights = self._right(head), self._right(row)
        return head == rows[0] or (None not in rights and rights[0] != rights[1])

    def _right(self, row: int) -> str | None:
        answer = self.answers[row]
        return None if answer == NO_ANSWER else self.options[row][answer]

    def _spread(self, left: int, right: int) -> set[tuple[int, int]]:
        """A pair of first copies and, with two tables, the pairs of their copies with the other first."""
        if self.split is None:
            return {(left, right)}
        lefts, rights = (self._sides(self.copies[self._key(row)])[row >= self.split] for row in (left, right))
        return {(left, row) for row in rights} | {(row, right) for row in lefts}

    def _key(self, row: int) -> tuple[str, frozenset[str | None]]:
        return self.prompts[row], frozenset(self.options[row]) - {None}

    def _contradict(self, left: int, right: int) -> bool:
        one, other = self._right(left), self._right(right)
        if self.prompts[left] != self.prompts[right] or one is None or other is None:
            return False
        return one != other and (one in self.options[right] or other in self.options[left])
