"""Ranking without training: how well does an option, appended to the prompt, match the evidence?"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.contexts import OWN, Evidence, QuestionContexts
from kaggle_rag.data.probabilities import Probabilities, softmax
from kaggle_rag.data.questions import Question, Questions
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.index.vectors import Vectors
from kaggle_rag.rankers.base import HoldsNothing
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

# Questions scored at a time: bounds the vectors in RAM.
_BATCH = 512

# Scores by name; all but bm25 are on the scale of cosines, so that one temperature suits them.
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


def score_of(name: str, views: Views) -> Scores:
    """Scores ``(k,)`` of the options that exist, by a formula of `SCORES`.

    A question without evidence gets `words_only` from every formula.
    """
    score = SCORES[name] if len(views.evidence) else words_only
    return score(views)


class SimilarityRanker(HoldsNothing):
    """Ranks options by a softmax over one of ``SCORES``.

    Parameters
    ----------
    encoder : embeds prompts, options and the evidence that is not in the index.
    index : supplies vectors of the evidence, so that it is not encoded again.
    score : a key of ``SCORES``. Without evidence every score falls back to `words_only`.
    temperature : of the softmax; lower is more confident. `weighed` is calibrated at the default.
    """

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

    def probabilities(
        self, questions: Questions, contexts: Sequence[QuestionContexts | None] | None
    ) -> Probabilities:
        """See `kaggle_rag.rankers.base.Ranker`."""
        present = questions.present
        scores = np.zeros(present.shape)
        for row, views in enumerate(self.views(questions, contexts)):
            scores[row, present[row]] = score_of(self.score, views)
        return softmax(scores / self.temperature, present)

    def views(
        self, questions: Questions, contexts: Sequence[QuestionContexts | None] | None
    ) -> Iterator[Views]:
        """Each question as the scores see it, in order."""
        pairs = zip(questions, contexts or itertools.repeat(None))
        while batch := list(itertools.islice(pairs, _BATCH)):
            evidence = [context.evidence() if context else [] for _, context in batch]
            yield from self._views([question for question, _ in batch], evidence)

    def _views(self, questions: Sequence[Question], evidence: Sequence[Sequence[Evidence]]) -> list[Views]:
        prompts = [short_prompt(question.prompt) for question in questions]
        options = [[option for option in row.options if option is not None] for row in questions]
        both = [f"{prompt} {option}" for prompt, row in zip(prompts, options) for option in row]
        alone = [option for row in options for option in row]
        prompt_vectors = self.encoder.encode_queries(prompts)
        both_vectors = self.encoder.encode_queries(both)
        option_vectors = self.encoder.encode_queries(alone)
        evidence_vectors = self._evidence_vectors([e for each in evidence for e in each])
        language = self.index.manifest.language if self.index is not None else "en"
        views, option, piece = [], 0, 0
        for row, (texts, pieces) in enumerate(zip(options, evidence)):
            of_options, of_pieces = slice(option, option + len(texts)), slice(piece, piece + len(pieces))
            option, piece = of_options.stop, of_pieces.stop
            views.append(
                Views(
                    prompt_vectors[row], option_vectors[of_options], both_vectors[of_options],
                    evidence_vectors[of_pieces], texts, [e.text for e in pieces], prompts[row], language,
                )
            )  # fmt: skip
        return views

    def _indexed(self, evidence: Sequence[Evidence]) -> npt.NDArray[np.bool_]:
        """Which of them the index holds at their rows, ``(n,)``: contexts may come from another index."""
        if self.index is None:
            return np.zeros(len(evidence), dtype=bool)
        count = len(self.index)
        known = np.array([e.article_id != OWN and 0 <= e.row < count for e in evidence], dtype=bool)
        places = np.flatnonzero(known).tolist()
        held = self.index.passages.take(np.array([evidence[n].row for n in places], dtype=np.int64))
        known[places] = [passage.text == evidence[n].text for n, passage in zip(places, held)]
        return known

    def _evidence_vectors(self, evidence: Sequence[Evidence]) -> Vectors:
        """From the index for passages in it; other texts are encoded, each once."""
        indexed = self._indexed(evidence)
        out = np.empty((len(evidence), self.encoder.card.dim), dtype=np.float32)
        if self.index is not None and indexed.any():
            rows = np.array([e.row for e, known in zip(evidence, indexed) if known])
            out[indexed] = self.index.vectors(rows)
        texts = sorted({e.text for e, known in zip(evidence, indexed) if not known})
        position = {text: number for number, text in enumerate(texts)}
        vectors = self.encoder.encode_passages(texts)
        for number in map(int, np.flatnonzero(~indexed)):
            out[number] = vectors[position[evidence[number].text]]
        return out
