"""Questions to contexts: ask every retriever, fuse, re-rank, assemble. Linear in the questions."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kaggle_rag.config import ContextSettings
from kaggle_rag.progress import progress as bar_of
from kaggle_rag.questions import Questions
from kaggle_rag.retrieval.assembly import Assembler, longest_prefix
from kaggle_rag.retrieval.candidates import Candidates
from kaggle_rag.retrieval.cleaning import paragraphs
from kaggle_rag.retrieval.contexts import OWN, Context, Evidence, QuestionContexts
from kaggle_rag.retrieval.encoder import Encoder
from kaggle_rag.retrieval.exact import is_affordable
from kaggle_rag.retrieval.fusion import MERGES
from kaggle_rag.retrieval.index import Index
from kaggle_rag.retrieval.panel import Panel, Verdicts
from kaggle_rag.retrieval.passages import Passage
from kaggle_rag.retrieval.queries import Query, queries_of
from kaggle_rag.retrieval.rerank import exact_distances, nearest_distinct
from kaggle_rag.retrieval.sources import DenseAnswers
from kaggle_rag.retrieval.units import sentences
from kaggle_rag.retrieval.vectors import Rows, Vectors

if TYPE_CHECKING:
    from kaggle_rag.retrieval.crossencoder import CrossEncoder

Scores = npt.NDArray[np.float64]
# Questions handled at once: bounds the queries, candidates and texts that lie in RAM.
_BATCH = 256
# In exact search each batch is a pass over all vectors, and there had better be few.
_EXACT_BATCH = 8_192


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
        self.panel = Panel(
            index, {index.manifest.default: encoder, **(others or {})}, settings.retrievers,
            fusion=settings.fusion, exact=exact,
        )  # fmt: skip
        self._passage = functools.lru_cache(maxsize=100_000)(self._read)
        self._tokens = functools.lru_cache(maxsize=100_000)(self._count)

    def __call__(self, questions: Questions, *, progress: bool = False) -> list[QuestionContexts]:
        """The contexts of every question, in order."""
        found: list[QuestionContexts] = []
        with bar_of(len(questions), "contexts", "question", disable=not progress) as bar:
            for start in range(0, len(questions), self.batch):
                batch = questions.take(range(start, min(start + self.batch, len(questions))))
                for contexts in self._batch(batch):
                    found.append(contexts)
                    bar.update()
        return found

    def _batch(self, questions: Questions) -> Iterator[QuestionContexts]:
        forms, instruction_forms = self.settings.forms, self.settings.instruction_forms
        queries = queries_of(questions, forms, instruction_forms)
        kept = [context is not None and self.settings.own == "keep" for context in questions.contexts]
        texts = [q.text for asked, own in zip(queries, kept) if not own for q in asked]
        verdicts = self.panel.ask(texts, self.settings.hits)
        # Distances in the evidence are those of the default encoder, whoever found it.
        default = verdicts.answers.get(self.index.manifest.default)
        vectors = default.vectors if isinstance(default, DenseAnswers) else self.encoder.encode_queries(texts)
        start = 0
        for asked, own, context, options in zip(queries, kept, questions.contexts, questions.options):
            if own:
                candidates = self._own([query.text for query in asked], str(context))
            else:
                mine = slice(start, start := start + len(asked))
                candidates = self._found(vectors[mine], verdicts, mine)
            yield self._contexts(asked, candidates, options)

    def _found(self, vectors: Vectors, verdicts: Verdicts, queries: slice) -> Candidates:
        rows, scores, finders = verdicts.of(queries)
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

    def _contexts(
        self, queries: Sequence[Query], candidates: Candidates, options: Sequence[str | None]
    ) -> QuestionContexts:
        if self.settings.per == "question":
            return QuestionContexts(self._context(queries, candidates), ())
        by_option: list[Context | None] = []
        for column, option in enumerate(options):
            asks = [i for i, query in enumerate(queries) if query.option == column]
            # With the form "all" alone every option is judged by the question's evidence.
            asks = asks or list(range(len(queries)))
            by_option.append(
                self._context([queries[i] for i in asks], candidates.asked_by(asks))
                if option is not None
                else None
            )
        return QuestionContexts(None, tuple(by_option))

    def _context(self, queries: Sequence[Query], candidates: Candidates) -> Context:
        evidence = self._evidence(queries, candidates) if len(candidates.rows) else []
        return Context(self._text(evidence, candidates), tuple(evidence))

    def _evidence(self, queries: Sequence[Query], candidates: Candidates) -> list[Evidence]:
        """The best candidates, near-duplicates of better ones left out."""
        scores = MERGES[self.settings.merge](candidates.scores)
        if self.reranker is not None:
            scores = self._reread(self.reranker, scores, queries, candidates)
        settings = self.settings
        chosen = nearest_distinct(-scores, candidates.vectors, settings.keep, settings.near_duplicate)
        return [candidates.evidence(position, queries, float(scores[position])) for position in chosen]

    def _reread(
        self, reranker: CrossEncoder, scores: Scores, queries: Sequence[Query], candidates: Candidates
    ) -> Scores:
        """The best candidates by the cross-encoder; the others stay behind them, in their order.

        It reads the first of the queries: with all options, or in an option's context with that option.
        """
        best = np.argsort(-scores, kind="stable")[: self.settings.rerank]
        found = [candidates.passage(int(candidates.rows[position])) for position in best]
        texts = [passage.text for passage in found if passage is not None]
        read = reranker.scores([queries[0].text] * len(texts), texts)
        reread = read.min() - 1 - (scores.max() - scores)
        reread[best] = read
        return np.asarray(reread, dtype=np.float64)

    def _text(self, evidence: Sequence[Evidence], candidates: Candidates) -> str:
        """An own context that fits stays as it is; the rest is assembled from its evidence."""
        if candidates.whole is not None and self._tokens(candidates.whole) <= self.settings.tokens:
            return candidates.whole
        if not evidence:
            # Scraps that are no sentences leave nothing to choose from but their beginning.
            return longest_prefix((candidates.whole or "").split(), self.settings.tokens, self._tokens)
        assemble = Assembler(
            self.settings.tokens, self.settings.neighbours, self.settings.titles,
            candidates.passage, self._tokens,
        )  # fmt: skip
        return assemble([e.row for e in evidence])

    def _read(self, row: int) -> Passage | None:
        return self.index.passages[row] if 0 <= row < len(self.index) else None

    def _count(self, text: str) -> int:
        return int(self.encoder.count_tokens([text])[0])
