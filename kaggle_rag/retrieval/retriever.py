"""Questions to contexts: query every retriever, fuse, re-rank, assemble. Linear in the questions."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence

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
from kaggle_rag.retrieval.queries import FORMS, Query, queries_of, short_prompt
from kaggle_rag.retrieval.rerank import exact_distances, nearest_distinct
from kaggle_rag.retrieval.rereading import ContextQueries, PairScorer, reread
from kaggle_rag.retrieval.retrievers import DenseResults
from kaggle_rag.runtime.console import progress as bar_of
from kaggle_rag.text.cleaning import paragraphs
from kaggle_rag.text.units import Unit, sentences

Scores = npt.NDArray[np.float64]
# Questions handled at once: bounds the queries, candidates and texts in RAM.
BATCH = 256
# In exact search each batch is a pass over all vectors, so batches are large.
_EXACT_BATCH = 8_192
# Questions whose pairs a re-ranker reads at once: enough to fill a GPU's batches with pairs of similar
# length, without the candidates of a large batch all in RAM.
_REREAD = 64
_Retrieved = tuple[Sequence[Query], Candidates, Question]


def batch_size(index: Index, settings: ContextSettings, device: str) -> int:
    """The number of questions to query together where the encoder is on a device."""
    return _EXACT_BATCH if _is_exact(index, settings, device) else BATCH


def _is_exact(index: Index, settings: ContextSettings, device: str) -> bool:
    """Whether every stored vector is searched."""
    if settings.exact == "auto":
        store = index.default.store
        return is_affordable(len(store) * store.layout.row_bytes, device)
    return settings.exact


class Retriever:
    """Retrieves the evidence for questions from one index.

    Parameters
    ----------
    encoder : that of the index's default retriever.
    others : encoders of its other dense retrievers, by name, if ``settings.retrievers`` uses them.
    reranker : reads the best candidates of each context together with the question.
    """

    def __init__(
        self,
        index: Index,
        encoder: Encoder,
        settings: ContextSettings,
        others: Mapping[str, Encoder] | None = None,
        reranker: PairScorer | None = None,
    ) -> None:
        self.index, self.encoder, self.settings, self.reranker = index, encoder, settings, reranker
        self.together = batch_size(index, settings, encoder.device)
        """The number of questions whose queries are searched together."""
        self.hybrid = HybridRetriever(
            index, {index.manifest.default: encoder, **(others or {})}, settings.retrievers,
            fusion=settings.fusion, exact=_is_exact(index, settings, encoder.device), nprobe=settings.nprobe,
        )  # fmt: skip
        self._passage = functools.lru_cache(maxsize=100_000)(self._read)
        self._tokens = functools.lru_cache(maxsize=100_000)(self._count)

    def __call__(self, questions: Questions, *, progress: bool = False) -> list[QuestionContexts]:
        """The contexts of every question, in order."""
        contexts: list[QuestionContexts] = []
        with bar_of(len(questions), "contexts", "question", disable=not progress) as bar:
            for question_contexts in self.stream(questions):
                contexts.append(question_contexts)
                bar.update()
        return contexts

    def stream(self, questions: Questions) -> Iterator[QuestionContexts]:
        """The same, each as soon as it is put together: a search of many questions is stored bit by bit."""
        rows = iter(questions)
        while batch := list(itertools.islice(rows, self.together)):
            yield from self._batch(batch)

    def _batch(self, questions: Sequence[Question]) -> Iterator[QuestionContexts]:
        queries = queries_of(questions, self.settings.forms, self.settings.instruction_forms)
        keep_own = [each.context is not None and self.settings.own == "keep" for each in questions]
        texts = [q.text for group, own in zip(queries, keep_own) if not own for q in group]
        results = self.hybrid.ask(texts, self.settings.hits)
        # Distances in the evidence are those of the default encoder, whichever retriever found it.
        default = results.by_name.get(self.index.manifest.default)
        vectors = default.vectors if isinstance(default, DenseResults) else self.encoder.encode_queries(texts)
        start, retrieved = 0, []
        for question, group, own in zip(questions, queries, keep_own):
            if own:
                candidates = self._own([query.text for query in group], str(question.context))
            else:
                span = slice(start, start := start + len(group))
                candidates = self._found(vectors[span], results, span)
            retrieved.append((group, candidates, question))
            if self.reranker is None or len(retrieved) == _REREAD:
                yield from self._contexts(retrieved)
                retrieved = []
        yield from self._contexts(retrieved)

    def _found(self, vectors: Vectors, results: HybridResults, queries: slice) -> Candidates:
        rows, scores, retrievers = results.of(queries)
        hits = self.index.vectors(rows)
        return Candidates(rows, hits, exact_distances(vectors, hits), scores, retrievers, self._passage)

    def _own(self, queries: Sequence[str], text: str) -> Candidates:
        """The sentences of a context that the question brought, as a small corpus."""
        language = self.index.manifest.language
        lines = [Passage(0, OWN, "", s) for line in paragraphs(text) for s in sentences(line, language)]
        vectors = self.encoder.encode_passages([line.text for line in lines])

        def passage(row: int) -> Passage | None:
            return lines[row] if 0 <= row < len(lines) else None

        distances = exact_distances(self.encoder.encode_queries(queries), vectors)
        rows: Rows = np.arange(len(lines))
        retrievers = [OWN] * len(lines)
        return Candidates(rows, vectors, distances, 1 - distances**2 / 2, retrievers, passage, text)

    def _contexts(self, retrieved: Sequence[_Retrieved]) -> Iterator[QuestionContexts]:
        """The contexts of some questions; a re-ranker reads the pairs of all of them at once."""
        parts = [self._parts(*each) for each in retrieved]
        scores = iter(self._scores([part for each in parts for part in each if part]))
        for each in parts:
            contexts = tuple(part and self._context(part, next(scores)) for part in each)
            shared = self.settings.per == "question"
            yield QuestionContexts(contexts[0], ()) if shared else QuestionContexts(None, contexts)

    def _parts(
        self, queries: Sequence[Query], candidates: Candidates, question: Question
    ) -> list[ContextQueries | None]:
        """Queries and candidates for the question's context, or for each option's; ``None`` if absent.

        A re-ranker reads the question with all options, or with the one, whichever forms were searched for.
        """
        prompt, options = short_prompt(question.prompt), question.options
        if self.settings.per == "question":
            (asked,) = FORMS["all"](prompt, options)
            return [ContextQueries(queries, candidates, asked.text)]
        asked_of = {query.option: query.text for query in FORMS["each"](prompt, options)}
        parts: list[ContextQueries | None] = []
        for column, option in enumerate(options):
            rows = [i for i, query in enumerate(queries) if query.option == column]
            # With only the form "all", every option uses the question's evidence.
            rows = rows or list(range(len(queries)))
            of_option = [queries[i] for i in rows], candidates.of_queries(rows)
            parts.append(None if option is None else ContextQueries(*of_option, asked_of[column]))
        return parts

    def _scores(self, parts: Sequence[ContextQueries]) -> list[Scores]:
        """The scores that order the candidates of each context, ``(m,)``."""
        merge = MERGES[self.settings.merge]
        found = [part.candidates for part in parts]
        scores = [merge(each.scores) if len(each.rows) else np.zeros(0) for each in found]
        if self.reranker is None:
            return scores
        merged = self.settings.reranked == "merged"
        return reread(self.reranker, parts, scores, self.settings.rerank, merged=merged)

    def _context(self, part: ContextQueries, scores: Scores) -> Context:
        """The best candidates, without near-duplicates of better ones, and the text they form."""
        settings, (queries, candidates, _) = self.settings, part
        chosen = nearest_distinct(-scores, candidates.vectors, settings.keep, settings.near_duplicate)
        evidence = [candidates.evidence(position, queries, float(scores[position])) for position in chosen]
        return Context(self._snippets(evidence, candidates), tuple(evidence))

    def _snippets(self, evidence: Sequence[Evidence], candidates: Candidates) -> tuple[Snippet, ...]:
        """An own context that fits stays unchanged; any other is assembled from its evidence."""
        if candidates.whole is not None and self._tokens(candidates.whole) <= self.settings.tokens:
            return paragraphs_as_snippets(candidates.whole)
        if not evidence:
            # Fragments without sentences leave nothing to choose from but their beginning.
            prefix = longest_prefix((candidates.whole or "").split(), self.settings.tokens, self._tokens)
            return paragraphs_as_snippets(prefix)
        assemble = Assembler(
            self.settings.tokens, self.settings.neighbours, self.settings.titles,
            candidates.passage, self._tokens,
            overlapping=candidates.whole is None and Unit.parse(self.index.manifest.unit).overlap > 0,
            language=self.index.manifest.language,
        )  # fmt: skip
        return assemble([e.row for e in evidence], [e.score for e in evidence])

    def _read(self, row: int) -> Passage | None:
        return self.index.passages[row] if 0 <= row < len(self.index) else None

    def _count(self, text: str) -> int:
        return int(self.encoder.count_tokens([text])[0])
