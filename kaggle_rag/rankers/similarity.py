"""Ranking without training: how well does an option, put behind the prompt, match the evidence?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

import numpy as np

from kaggle_rag.data.contexts import OWN, Evidence, QuestionContexts
from kaggle_rag.data.probabilities import Probabilities, softmax
from kaggle_rag.data.questions import Questions
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.index.vectors import Vectors
from kaggle_rag.rankers.scores import (
    Scores,
    Views,
    best_both,
    best_option,
    best_sum,
    bm25,
    lift,
    novel,
    overlap,
    top_three,
    words_only,
)
from kaggle_rag.rankers.weighed import TEMPERATURE, weighed
from kaggle_rag.retrieval.queries import short_prompt
from kaggle_rag.runtime.errors import ConfigError

# Questions scored at once: bounds the vectors in RAM.
_BATCH = 512

# Scores by name; all but bm25 are of the size of cosines, so that one temperature suits them.
SCORES: dict[str, Callable[[Views], Scores]] = {
    "weighed": weighed,
    "novel": novel,
    "lift": lift,
    "best_both": best_both,
    "best_option": best_option,
    "best_sum": best_sum,
    "top_three": top_three,
    "overlap": overlap,
    "bm25": bm25,
    "words_only": words_only,
}


class SimilarityRanker:
    """Ranks options by one of ``SCORES``, softmaxed.

    Parameters
    ----------
    encoder : embeds prompts, options and the evidence that is not in the index.
    index : gives the vectors of evidence without encoding it again.
    score : a key of ``SCORES``. Without evidence every score falls back on `words_only`.
    temperature : of the softmax; smaller is surer. `weighed` is fitted to be as sure as it is right at the
        default.
    """

    notes: Sequence[str] = ()

    def __init__(
        self,
        encoder: Encoder,
        index: Index | None = None,
        score: str = "weighed",
        temperature: float = TEMPERATURE,
    ) -> None:
        if score not in SCORES:
            raise ConfigError(
                f"no score {score!r}", where="rankers.options.score", expected="one of " + ", ".join(SCORES)
            )
        if not (isinstance(temperature, (int, float)) and 0 < temperature < float("inf")):
            raise ConfigError(
                f"cannot be {temperature!r}", where="rankers.options.temperature", expected="a number above 0"
            )
        self.encoder, self.index = encoder, index
        self.score, self.temperature = score, temperature

    def __enter__(self) -> SimilarityRanker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The encoder belongs to the caller; nothing else is held."""

    def probabilities(
        self, questions: Questions, contexts: Sequence[QuestionContexts] | None
    ) -> Probabilities:
        """See `kaggle_rag.rankers.base.Ranker`."""
        table = self.tables(questions, contexts, [self.score])[self.score]
        return softmax(table / self.temperature, questions.present)

    def tables(
        self,
        questions: Questions,
        contexts: Sequence[QuestionContexts] | None,
        names: Sequence[str],
    ) -> dict[str, Scores]:
        """Raw scores ``(n, k)`` by each of the named formulas, everything being encoded once.

        Absent options have 0. A question without evidence gets `words_only` from every formula.
        """
        tables = {name: np.zeros((len(questions), questions.width)) for name in names}
        for row, views in enumerate(self.views(questions, contexts)):
            for name, table in tables.items():
                score = SCORES[name] if len(views.evidence) else words_only
                table[row, questions.present[row]] = score(views)
        return tables

    def views(
        self, questions: Questions, contexts: Sequence[QuestionContexts] | None
    ) -> Iterator[Views]:
        """Each question as the scores see it, in order."""
        for start in range(0, len(questions), _BATCH):
            rows = range(start, min(start + _BATCH, len(questions)))
            evidence = [contexts[row].evidence() if contexts is not None else [] for row in rows]
            yield from self._views(questions.take(rows), evidence)

    def _views(self, questions: Questions, evidence: Sequence[Sequence[Evidence]]) -> list[Views]:
        prompts = [short_prompt(prompt) for prompt in questions.prompts]
        options = [[option for option in row if option is not None] for row in questions.options]
        both = [f"{prompt} {option}" for prompt, row in zip(prompts, options) for option in row]
        alone = [option for row in options for option in row]
        prompt_vectors = self.encoder.encode_queries(prompts)
        both_vectors = self.encoder.encode_queries(both)
        option_vectors = self.encoder.encode_queries(alone)
        evidence_vectors = self._evidence_vectors([e for each in evidence for e in each])
        language = self.index.manifest.language if self.index is not None else "en"
        views, option, piece = [], 0, 0
        for row, (texts, found) in enumerate(zip(options, evidence)):
            here, there = slice(option, option + len(texts)), slice(piece, piece + len(found))
            option, piece = here.stop, there.stop
            views.append(
                Views(
                    prompt_vectors[row], option_vectors[here], both_vectors[here],
                    evidence_vectors[there], texts, [e.text for e in found], prompts[row], language,
                )
            )  # fmt: skip
        return views

    def _evidence_vectors(self, evidence: Sequence[Evidence]) -> Vectors:
        """From the index where the passage stands in it, else encoded, each text once."""
        indexed = np.array([self.index is not None and e.article_id != OWN for e in evidence], dtype=bool)
        out = np.empty((len(evidence), self.encoder.card.dim), dtype=np.float32)
        if self.index is not None and indexed.any():
            rows = np.array([e.row for e, there in zip(evidence, indexed) if there])
            out[indexed] = self.index.vectors(rows)
        texts = sorted({e.text for e, there in zip(evidence, indexed) if not there})
        place = {text: number for number, text in enumerate(texts)}
        vectors = self.encoder.encode_passages(texts)
        for number in map(int, np.flatnonzero(~indexed)):
            out[number] = vectors[place[evidence[number].text]]
        return out
