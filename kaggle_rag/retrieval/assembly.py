"""Assemble hits into a context: join neighbours, add titles, cut to a token budget at sentence borders."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

from kaggle_rag.data.contexts import Snippet
from kaggle_rag.index.passages import Passage
from kaggle_rag.text.units import sentences


@dataclasses.dataclass(frozen=True)
class Assembler:
    """Joins ranked passages into snippets.

    Attributes
    ----------
    budget : most tokens of a context.
    neighbours : passages joined on each side of a hit.
    titles : whether a snippet starts with ``Title: ``.
    passage : the passage of a row, ``None`` outside the index.
    tokens : the length of a text in tokens.
    overlapping : whether a passage may begin with the end of the one before, as windows do: what two that are
        joined share is written, and paid for, once.
    language : of the passages' sentences.
    """

    budget: int
    neighbours: int
    titles: bool
    passage: Callable[[int], Passage | None]
    tokens: Callable[[str], int]
    overlapping: bool = False
    language: str = "en"

    @functools.cached_property
    def _joint(self) -> int:
        """Tokens of the line break between two snippets, to tokenizers that have one for it."""
        return max(0, self.tokens("a\na") - self.tokens("a a"))

    def __call__(self, ranked: Sequence[int], scores: Sequence[float]) -> tuple[Snippet, ...]:
        """The snippets of a context from the passages at ``ranked`` rows, best first, and their scores.

        A hit is added before its neighbours, and its neighbours before the next hit; what does not fit
        is skipped. Snippets are in the order of their best hit, passages inside a snippet in the
        order of the article.
        """
        left = self.budget
        best: dict[int, int] = {}
        for rank, row in enumerate(ranked):
            for near in self._around(row):
                cost = self._text_cost(near, best) + self._title_cost(near, best)
                if near not in best and cost <= left:
                    best[near] = rank
                    left -= cost
                elif near == row and row not in best:
                    break
        return self._snippets(best, scores) or self._first_sentences(ranked, scores)

    def _around(self, row: int) -> list[int]:
        """The row, then its neighbours in the same article, nearest first, of two the later first."""
        article = self._article(row)
        steps = range(1, self.neighbours + 1)
        near = [row + side * step for step in steps for side in (1, -1)]
        return [row] + [other for other in near if self._article(other) == article]

    def _article(self, row: int) -> int | None:
        passage = self.passage(row)
        return None if passage is None else passage.article

    def _text(self, row: int) -> str:
        passage = self.passage(row)
        return passage.text if passage else ""

    def _text_cost(self, row: int, best: dict[int, int]) -> int:
        cost = self.tokens(self._text(row))
        for other in (row - 1, row + 1) if self.overlapping else ():
            if other in best and self._article(other) == self._article(row):
                first = min(row, other)
                cost -= self.tokens(shared(self._text(first), self._text(first + 1)))
        return cost

    def _joined(self, rows: Sequence[int]) -> str:
        """The passages of neighbouring rows as one text."""
        text = self._text(rows[0])
        for row in rows[1:]:
            after = self._text(row)
            again = shared(text, after) if self.overlapping else ""
            text += after[len(again) :] if again else f" {after}"
        return text

    def _title_cost(self, row: int, best: dict[int, int]) -> int:
        """Of the title, and of the line break before it; a passage that continues a snippet needs neither."""
        joined = any(
            side in best and self._article(side) == self._article(row) for side in (row - 1, row + 1)
        )
        if joined:
            return 0
        title = self.tokens(f"{self._title(row)}: ") if self._title(row) else 0
        return title + (self._joint if best else 0)

    def _title(self, row: int) -> str:
        passage = self.passage(row)
        return passage.title if self.titles and passage else ""

    def _snippets(self, best: dict[int, int], scores: Sequence[float]) -> tuple[Snippet, ...]:
        runs: list[list[int]] = []
        for row in sorted(best):
            if runs and row == runs[-1][-1] + 1 and self._article(row) == self._article(runs[-1][-1]):
                runs[-1].append(row)
            else:
                runs.append([row])
        runs.sort(key=lambda run: min(best[row] for row in run))
        return tuple(
            Snippet(
                self._title(run[0]), self._joined(run),
                float(scores[min(best[row] for row in run)]), tuple(run),
            )
            for run in runs
        )  # fmt: skip

    def _first_sentences(self, ranked: Sequence[int], scores: Sequence[float]) -> tuple[Snippet, ...]:
        """The first sentences, or words, of the best passage that fit, if it does not fit as a whole."""
        if not ranked:
            return ()
        text = self._text(ranked[0])
        prefix = longest_prefix(sentences(text, self.language) or [text], self.budget, self.tokens)
        prefix = prefix or longest_prefix(text.split(" "), self.budget, self.tokens)
        # One word, or a script without spaces.
        prefix = prefix or longest_prefix(text, self.budget, self.tokens, by="")
        return (Snippet("", prefix, float(scores[0]), (ranked[0],)),) if prefix else ()


def shared(before: str, after: str) -> str:
    """The longest end of one text that is the beginning of the other."""
    lengths = range(min(len(before), len(after)), 0, -1)
    return next((after[:length] for length in lengths if before.endswith(after[:length])), "")


def longest_prefix(
    pieces: Sequence[str], budget: int, tokens: Callable[[str], int], by: str = " "
) -> str:
    """The longest prefix, joined ``by``, of at most ``budget`` tokens (by bisection: tokens only grow)."""
    low, high = 0, len(pieces)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if tokens(by.join(pieces[:middle])) <= budget else (low, middle - 1)
    return by.join(pieces[:low])
