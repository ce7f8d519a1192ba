"""The candidates of one question: passages, distances and the scores of the retrievers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from kaggle_rag.data.contexts import Evidence
from kaggle_rag.index.passages import Passage
from kaggle_rag.index.vectors import Rows, Vectors
from kaggle_rag.retrieval.fusion import Matrix
from kaggle_rag.retrieval.queries import Query


@dataclasses.dataclass(frozen=True)
class Candidates:
    """``m`` candidates of the ``q`` queries of one question.

    Parameters
    ----------
    rows : ``(m,)`` in the index, or among the sentences of a context the question brought.
    vectors : ``(m, d)`` by the default encoder.
    distances : ``(q, m)`` exact L2 distances by the default encoder.
    scores : ``(q, m)`` of all retrievers combined, larger is better.
    retrievers : ``(m,)`` names of the retrievers that found each.
    passage : the passage at a row, ``None`` beyond the ends.
    whole : the context the question brought, unchanged.
    """

    rows: Rows
    vectors: Vectors
    distances: Matrix
    scores: Matrix
    retrievers: Sequence[str]
    passage: Callable[[int], Passage | None]
    whole: str | None = None

    def of_queries(self, queries: Sequence[int]) -> Candidates:
        """The same candidates, scored by some of the queries."""
        return dataclasses.replace(self, distances=self.distances[queries], scores=self.scores[queries])

    def text(self, position: int) -> str:
        """The text of one candidate."""
        return self._at(position).text

    def evidence(self, position: int, queries: Sequence[Query], score: float) -> Evidence:
        """One candidate as evidence, with the query that scores it highest."""
        row, passage = int(self.rows[position]), self._at(position)
        best = int(self.scores[:, position].argmax())
        return Evidence(
            passage.article_id, passage.title, row, passage.text,
            float(self.distances[best, position]), queries[best].form, score, self.retrievers[position],
        )  # fmt: skip

    def _at(self, position: int) -> Passage:
        passage = self.passage(int(self.rows[position]))
        assert passage is not None
        return passage
