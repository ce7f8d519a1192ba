"""Questions to contexts: ask every retriever, fuse, re-rank, assemble. Linear in the questions."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kaggle_rag.config import ContextSettings
from kaggle_rag.data.contexts import (
    OWN,
    Context,
    Evidence,
    QuestionContexts,
    Snippet,
    paragraphs_as_snippets,
)
from kaggle_rag.data.questions import Question, Questions
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.exact import is_affordable
from kaggle_rag.index.index import Index
from kaggle_rag.index.passages import Passage
from kaggle_rag.index.vectors import Rows, Vectors
from kaggle_rag.retrieval.assembly import Assembler, longest_prefix
from kaggle_rag.retrieval.candidates import Candidates
from kaggle_rag.retrieval.fusion import MERGES
from kaggle_rag.retrieval.hybrid import HybridResults, HybridRetriever
from kaggle_rag.retrieval.queries import Query, queries_of
from kaggle_rag.retrieval.rerank import exact_distances, nearest_distinct
from kaggle_rag.retrieval.rereading import Asked, reread
from kaggle_rag.retrieval.retrievers import DenseAnswers
from kaggle_rag.runtime.console import progress as bar_of
from kaggle_rag.text.cleaning import paragraphs
from kaggle_rag.text.units import sentences

if TYPE_CHECKING:
    from kaggle_rag.retrieval.crossencoder import CrossEncoder

Scores = npt.NDArray[np.float64]
# Questions handled at once: bounds the queries, candidates and texts that lie in RAM.
_BATCH = 256
# In exact search each batch is a pass over all vectors, and there had better be few.
_EXACT_BATCH = 8_192
# Questions whose pairs a re-ranker reads at once: enough to fill a GPU's batches with pairs of like
# length, while the candidates of a large batch do not all lie in RAM.
_REREAD = 64
_Found = tuple[Sequence[Query], Candidates, Sequence["str | None"]]


class Retriever:
    """Finds the evidence for questions in one index.

    Parameters
    ----------
    encoder : that of the index's default retriever.
    others : encoders of its further dense retrievers, by name, where ``settings.retrievers`` asks them.
    reranker : reads the best candidates of each context together with the question.
    """

    def __init__(
        self,
        index: Index,
        encoder: Encoder,
        settings: ContextSettings,
        others: Mapping[str, Encoder] | None = None,
        reranker: CrossEncoder | None = None,
    ) -> None:
        self.index, self.encoder, self.settings, self.reranker = index, encoder, settings, reranker
        store = index.default.store
        affordable = is_affordable(len(store) * store.layout.row_bytes, encoder.device)
        exact = affordable if settings.exact == "auto" else settings.exact
        self.batch = _EXACT_BATCH if exact else _BATCH
        """Questions that are best asked together."""
        self.hybrid = HybridRetriever(
            index, {index.manifest.default: encoder, **(others or {})}, settings.retrievers,
            fusion=settings.fusion, exact=exact,
        )  # fmt: skip
        self._passage = functools.lru_cache(maxsize=100_000)(self._read)
        self._tokens = functools.lru_cache(maxsize=100_000)(self._count)

    def __call__(self, questions: Questions, *, progress: bool = False) -> list[QuestionContexts]:
        """The contexts of every question, in order."""
        contexts: list[QuestionContexts] = []
        rows = iter(questions)
        with bar_of(len(questions), "contexts", "question", disable=not progress) as bar:
            while batch := list(itertools.islice(rows, self.batch)):
                for each in self._batch(batch):
                    contexts.append(each)
                    bar.update()
        return contexts

    def _batch(self, questions: Sequence[Question]) -> Iterator[QuestionContexts]:
        queries = queries_of(questions, self.settings.forms, self.settings.instruction_forms)
        kept = [each.context is not None and self.settings.own == "keep" for each in questions]
        texts = [q.text for asked, own in zip(queries, kept) if not own for q in asked]
        results = self.hybrid.ask(texts, self.settings.hits)
        # Distances in the evidence are those of the default encoder, whoever found it.
        default = results.answers.get(self.index.manifest.default)
        vectors = default.vectors if isinstance(default, DenseAnswers) else self.encoder.encode_queries(texts)
        start, found = 0, []
        for question, asked, own in zip(questions, queries, kept):
            if own:
                candidates = self._own([query.text for query in asked], str(question.context))
            else:
                mine = slice(start, start := start + len(asked))
                candidates = self._found(vectors[mine], results, mine)
            found.append((asked, candidates, question.options))
            if self.reranker is None or len(found) == _REREAD:
                yield from self._contexts(found)
                found = []
        yield from self._contexts(found)

    def _found(self, vectors: Vectors, results: HybridResults, queries: slice) -> Candidates:
        rows, scores, finders = results.of(queries)
        found = self.index.vectors(rows)
        return Candidates(rows, found, exact_distances(vectors, found), scores, finders, self._passage)

    def _own(self, queries: Sequence[str], text: str) -> Candidates:
        """A context the question brought is a small corpus of its own sentences."""
        language = self.index.manifest.language
        lines = [Passage(0, OWN, "", s) for line in paragraphs(text) for s in sentences(line, language)]
        vectors = self.encoder.encode_passages([line.text for line in lines])

        def passage(row: int) -> Passage | None:
            return lines[row] if 0 <= row < len(lines) else None

        distances = exact_distances(self.encoder.encode_queries(queries), vectors)
        rows: Rows = np.arange(len(lines))
        finders = [OWN] * len(lines)
        return Candidates(rows, vectors, distances, 1 - distances**2 / 2, finders, passage, text)

    def _contexts(self, found: Sequence[_Found]) -> Iterator[QuestionContexts]:
        """The contexts of some questions; what a re-ranker reads for all of them, it reads at once."""
        parts = [self._parts(*question) for question in found]
        scores = iter(self._scores([part for question in parts for part in question if part]))
        for question in parts:
            made = tuple(part and self._context(part, next(scores)) for part in question)
            shared = self.settings.per == "question"
            yield QuestionContexts(made[0], ()) if shared else QuestionContexts(None, made)

    def _parts(
        self, queries: Sequence[Query], candidates: Candidates, options: Sequence[str | None]
    ) -> list[Asked | None]:
        """What the context of a question is chosen by, or that of each option; an absent option's is none."""
        if self.settings.per == "question":
            return [Asked(queries, candidates)]
        parts: list[Asked | None] = []
        for column, option in enumerate(options):
            asks = [i for i, query in enumerate(queries) if query.option == column]
            # With the form "all" alone every option is judged by the question's evidence.
            asks = asks or list(range(len(queries)))
            mine = Asked([queries[i] for i in asks], candidates.asked_by(asks))
            parts.append(None if option is None else mine)
        return parts

    def _scores(self, asked: Sequence[Asked]) -> list[Scores]:
        """What the candidates of each context are chosen by, ``(m,)``."""
        merge = MERGES[self.settings.merge]
        scores = [merge(c.scores) if len(c.rows) else np.zeros(0) for _, c in asked]
        if self.reranker is None:
            return scores
        return reread(self.reranker, asked, scores, self.settings.rerank)

    def _context(self, asked: Asked, scores: Scores) -> Context:
        """The best candidates, near-duplicates of better ones left out, and the text they make."""
        settings, (queries, candidates) = self.settings, asked
        chosen = nearest_distinct(-scores, candidates.vectors, settings.keep, settings.near_duplicate)
        evidence = [candidates.evidence(position, queries, float(scores[position])) for position in chosen]
        return Context(self._snippets(evidence, candidates), tuple(evidence))

    def _snippets(self, evidence: Sequence[Evidence], candidates: Candidates) -> tuple[Snippet, ...]:
        """An own context that fits stays as it is; the rest is assembled from its evidence."""
        if candidates.whole is not None and self._tokens(candidates.whole) <= self.settings.tokens:
            return paragraphs_as_snippets(candidates.whole)
        if not evidence:
            # Scraps that are no sentences leave nothing to choose from but their beginning.
            kept = longest_prefix((candidates.whole or "").split(), self.settings.tokens, self._tokens)
            return paragraphs_as_snippets(kept)
        assemble = Assembler(
            self.settings.tokens, self.settings.neighbours, self.settings.titles,
            candidates.passage, self._tokens,
        )  # fmt: skip
        return assemble([e.row for e in evidence], [e.score for e in evidence])

    def _read(self, row: int) -> Passage | None:
        return self.index.passages[row] if 0 <= row < len(self.index) else None

    def _count(self, text: str) -> int:
        return int(self.encoder.count_tokens([text])[0])
