"""Questions to contexts: encode, search, re-rank exactly, assemble. Linear in the questions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from kaggle_rag.config import ContextSettings
from kaggle_rag.questions import Questions
from kaggle_rag.retrieval.assembly import Assembler, longest_prefix
from kaggle_rag.retrieval.cleaning import paragraphs
from kaggle_rag.retrieval.contexts import OWN, Context, Evidence, QuestionContexts
from kaggle_rag.retrieval.encoder import Encoder
from kaggle_rag.retrieval.index import Index
from kaggle_rag.retrieval.passages import Passage
from kaggle_rag.retrieval.queries import Query, queries_of
from kaggle_rag.retrieval.rerank import Distances, exact_distances, nearest_distinct
from kaggle_rag.retrieval.units import sentences
from kaggle_rag.retrieval.vectors import Vectors

# Questions handled at once: bounds the queries, candidates and texts that lie in RAM.
BATCH = 256


class Retriever:
    """Finds the evidence for questions in one index."""

    def __init__(self, index: Index, encoder: Encoder, settings: ContextSettings) -> None:
        self.index, self.encoder, self.settings = index, encoder, settings
        self._passage = functools.lru_cache(maxsize=100_000)(self._read)
        self._tokens = functools.lru_cache(maxsize=100_000)(self._count)

    def __call__(self, questions: Questions, *, progress: bool = False) -> list[QuestionContexts]:
        """The contexts of every question, in order."""
        found: list[QuestionContexts] = []
        with tqdm(total=len(questions), desc="contexts", unit="question", disable=not progress) as bar:
            for start in range(0, len(questions), BATCH):
                batch = questions.take(range(start, min(start + BATCH, len(questions))))
                for contexts in self._batch(batch):
                    found.append(contexts)
                    bar.update()
        return found

    def _batch(self, questions: Questions) -> Iterator[QuestionContexts]:
        forms, instruction_forms = self.settings.forms, self.settings.instruction_forms
        queries = queries_of(questions, forms, instruction_forms)
        vectors = self.encoder.encode_queries([query.text for each in queries for query in each])
        mine = self._candidates(questions, queries, vectors)
        start = 0
        for row, (asked, rows) in enumerate(zip(queries, mine)):
            end = start + len(asked)
            if rows is None:
                source = self._own(str(questions.contexts[row]))
            else:
                source = _Source(rows, self.index.vectors(rows), self._passage)
            yield self._contexts(asked, vectors[start:end], source, questions.options[row])
            start = end

    def _candidates(
        self, questions: Questions, queries: Sequence[Sequence[Query]], vectors: Vectors
    ) -> list[npt.NDArray[np.int64] | None]:
        """Rows any query of a question hit, sorted; ``None`` for questions with their own context."""
        owner = np.repeat(np.arange(len(questions)), [len(asked) for asked in queries])
        own = np.array([self._keeps_own(context) for context in questions.contexts])
        searched = ~own[owner]
        _, rows = self.index.search(vectors[searched], self.settings.hits)
        owner = owner[searched]
        borders = np.searchsorted(owner, np.arange(len(questions) + 1))
        return [
            None if own[i] else np.unique(rows[borders[i] : borders[i + 1]]) for i in range(len(questions))
        ]

    def _keeps_own(self, context: str | None) -> bool:
        return context is not None and self.settings.own == "keep"

    def _contexts(
        self, queries: Sequence[Query], vectors: Vectors, source: _Source, options: Sequence[str | None]
    ) -> QuestionContexts:
        distances = exact_distances(vectors, source.vectors)
        if self.settings.per == "question":
            return QuestionContexts(self._context(queries, distances, source), ())
        by_option: list[Context | None] = []
        for column, option in enumerate(options):
            asks = [i for i, query in enumerate(queries) if query.option == column]
            # With the form "all" alone every option is judged by the question's evidence.
            asks = asks or list(range(len(queries)))
            by_option.append(
                self._context([queries[i] for i in asks], distances[asks], source)
                if option is not None
                else None
            )
        return QuestionContexts(None, tuple(by_option))

    def _context(self, queries: Sequence[Query], distances: Distances, source: _Source) -> Context:
        evidence = self._evidence(queries, distances, source) if len(source.rows) else []
        return Context(self._text(evidence, source), tuple(evidence))

    def _evidence(self, queries: Sequence[Query], distances: Distances, source: _Source) -> list[Evidence]:
        nearest = distances.min(axis=0)
        chosen = nearest_distinct(nearest, source.vectors, self.settings.keep, self.settings.near_duplicate)
        evidence = []
        for position in chosen:
            row = int(source.rows[position])
            passage = source.passage(row)
            assert passage is not None
            query = queries[int(distances[:, position].argmin())]
            evidence.append(
                Evidence(
                    passage.article_id, passage.title, row, passage.text,
                    float(nearest[position]), query.form,
                )
            )  # fmt: skip
        return evidence

    def _text(self, evidence: Sequence[Evidence], source: _Source) -> str:
        """An own context that fits stays as it is; the rest is assembled from its evidence."""
        if source.whole is not None and self._tokens(source.whole) <= self.settings.tokens:
            return source.whole
        if not evidence:
            # Scraps that are no sentences leave nothing to choose from but their beginning.
            return longest_prefix((source.whole or "").split(), self.settings.tokens, self._tokens)
        assemble = Assembler(
            self.settings.tokens, self.settings.neighbours, self.settings.titles,
            source.passage, self._tokens,
        )  # fmt: skip
        return assemble([e.row for e in evidence])

    def _own(self, text: str) -> _Source:
        """A context the question brought is a small corpus of its own sentences."""
        language = self.index.manifest.language
        lines = [Passage(0, OWN, "", s) for line in paragraphs(text) for s in sentences(line, language)]
        vectors = self.encoder.encode_passages([line.text for line in lines])

        def passage(row: int) -> Passage | None:
            return lines[row] if 0 <= row < len(lines) else None

        return _Source(np.arange(len(lines)), vectors, passage, text)

    def _read(self, row: int) -> Passage | None:
        return self.index.passages[row] if 0 <= row < len(self.index) else None

    def _count(self, text: str) -> int:
        return int(self.encoder.count_tokens([text])[0])


@dataclasses.dataclass(frozen=True)
class _Source:
    """Candidates of one question: their rows and vectors; ``whole`` is a context it brought."""

    rows: npt.NDArray[np.int64]
    vectors: Vectors
    passage: Callable[[int], Passage | None]
    whole: str | None = None
