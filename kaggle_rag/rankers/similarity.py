"""Ranking without training: how well does an option, put behind the prompt, match the evidence?

All scores are short formulas over cosines of unit vectors and the words of the evidence. They were
compared on the train halves of OpenBookQA and ARC-Easy; ``docs/results.md`` reports them all.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType

import numpy as np
import numpy.typing as npt

from kaggle_rag.ensemble import Probabilities, softmax
from kaggle_rag.errors import ConfigError
from kaggle_rag.questions import Questions
from kaggle_rag.retrieval.contexts import OWN, Evidence, QuestionContexts
from kaggle_rag.retrieval.encoder import Encoder
from kaggle_rag.retrieval.index import Index
from kaggle_rag.retrieval.queries import short_prompt
from kaggle_rag.retrieval.vectors import Vectors

Scores = npt.NDArray[np.float64]
_WORD = re.compile(r"\w+")
# Questions scored at once: bounds the vectors in RAM.
_BATCH = 512


@dataclasses.dataclass(frozen=True)
class Views:
    """One question as a score sees it: ``k`` present options, ``m`` pieces of evidence.

    Attributes
    ----------
    prompt : ``(d,)`` vector of the prompt.
    options : ``(k, d)`` vectors of the options alone.
    both : ``(k, d)`` vectors of prompt + option.
    evidence : ``(m, d)`` vectors of the evidence, ``m`` at least 1.
    option_texts, evidence_texts : their words.
    """

    prompt: Vectors
    options: Vectors
    both: Vectors
    evidence: Vectors
    option_texts: Sequence[str]
    evidence_texts: Sequence[str]


def words_only(q: Views) -> Scores:
    """Cosine of prompt and option: what the words of the question alone say."""
    return np.asarray(q.options @ q.prompt, dtype=np.float64)


def best_both(q: Views) -> Scores:
    """Cosine of the best sentence for prompt + option."""
    return np.asarray((q.evidence @ q.both.T).max(axis=0), dtype=np.float64)


def best_option(q: Views) -> Scores:
    """Cosine of the best sentence for the option alone."""
    return np.asarray((q.evidence @ q.options.T).max(axis=0), dtype=np.float64)


def best_sum(q: Views) -> Scores:
    """Best sentence by the sum of both cosines: it must speak of the option and of the question."""
    return np.asarray((q.evidence @ (q.both + q.options).T).max(axis=0), dtype=np.float64)


def top_three(q: Views) -> Scores:
    """Mean cosine of the three best sentences for prompt + option."""
    return np.asarray(np.sort(q.evidence @ q.both.T, axis=0)[-3:].mean(axis=0), dtype=np.float64)


def overlap(q: Views) -> Scores:
    """Largest share of the option's words that one sentence holds."""
    return np.array(
        [max(_share(words(option), words(text)) for text in q.evidence_texts) for option in q.option_texts]
    )


def bm25(q: Views) -> Scores:
    """BM25 of the option in the sentence that answers it best, the evidence being the collection.

    Source: Robertson & Zaragoza 2009, https://doi.org/10.1561/1500000019, with k1 = 1.2, b = 0.75
    and Lucene's idf.
    """
    documents = [Counter(words(text)) for text in q.evidence_texts]
    found = Counter(word for document in documents for word in document)
    lengths = np.array([max(sum(document.values()), 1) for document in documents])
    norms = 1.2 * (0.25 + 0.75 * lengths / lengths.mean())
    scores = np.zeros(len(q.option_texts))
    for column, option in enumerate(q.option_texts):
        total = np.zeros(len(documents))
        for word in set(words(option)):
            count = np.array([document[word] for document in documents])
            idf = np.log(1 + (len(documents) - found[word] + 0.5) / (found[word] + 0.5))
            total += idf * count / (count + norms)
        scores[column] = total.max()
    return scores


def lift(q: Views) -> Scores:
    """`best_both` less half of what the prompt's likeness to prompt + option gives for nothing."""
    return best_both(q) - 0.5 * (q.both @ q.prompt)


def novel(q: Views) -> Scores:
    """`lift`, and agreement beyond the prompt: the best all-round score found.

    A sentence that repeats the prompt is near to every option. With the prompt's direction taken
    out of sentence and prompt + option, what remains is what the option adds; its cosine counts as
    much as the sentence is about the prompt. A little of `words_only` settles the rest.
    """
    about = q.evidence @ q.prompt
    added = _unit(q.both - np.outer(q.both @ q.prompt, q.prompt))
    said = _unit(q.evidence - np.outer(about, q.prompt))
    agreement = (about[:, None] * (said @ added.T)).max(axis=0)
    return np.asarray(lift(q) + 0.5 * agreement + 0.25 * words_only(q), dtype=np.float64)


# Scores by name; all are cosines or shares, so one temperature suits them all but bm25.
SCORES: dict[str, Callable[[Views], Scores]] = {
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


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _share(wanted: Sequence[str], there: Sequence[str]) -> float:
    return len(set(wanted) & set(there)) / max(len(set(wanted)), 1)


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), dtype=np.float32)


class SimilarityRanker:
    """Ranks options by one of ``SCORES``, softmaxed.

    Parameters
    ----------
    encoder : embeds prompts, options and the evidence that is not in the index.
    index : gives the vectors of evidence without encoding it again.
    score : a key of ``SCORES``. Without evidence every score falls back on `words_only`.
    temperature : of the softmax; smaller is surer. The default has the least log loss on the train
        halves.
    """

    notes: Sequence[str] = ()

    def __init__(
        self,
        encoder: Encoder,
        index: Index | None = None,
        score: str = "novel",
        temperature: float = 0.12,
    ) -> None:
        if score not in SCORES:
            raise ConfigError(f"no score {score!r}", where="rankers.options", expected=", ".join(SCORES))
        if not (isinstance(temperature, (int, float)) and 0 < temperature < float("inf")):
            raise ConfigError(
                f"temperature {temperature!r}", where="rankers.options", expected="a number above 0"
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
        for start in range(0, len(questions), _BATCH):
            rows = range(start, min(start + _BATCH, len(questions)))
            evidence = [contexts[row].evidence() if contexts is not None else [] for row in rows]
            for row, views in zip(rows, self._views(questions.take(rows), evidence)):
                for name, table in tables.items():
                    score = SCORES[name] if len(views.evidence) else words_only
                    table[row, questions.present[row]] = score(views)
        return tables

    def _views(self, questions: Questions, evidence: Sequence[Sequence[Evidence]]) -> list[Views]:
        prompts = [short_prompt(prompt) for prompt in questions.prompts]
        options = [[option for option in row if option is not None] for row in questions.options]
        both = [f"{prompt} {option}" for prompt, row in zip(prompts, options) for option in row]
        alone = [option for row in options for option in row]
        prompt_vectors = self.encoder.encode_queries(prompts)
        both_vectors = self.encoder.encode_queries(both)
        option_vectors = self.encoder.encode_queries(alone)
        evidence_vectors = self._evidence_vectors([e for each in evidence for e in each])
        views, option, piece = [], 0, 0
        for row, (texts, found) in enumerate(zip(options, evidence)):
            here, there = slice(option, option + len(texts)), slice(piece, piece + len(found))
            option, piece = here.stop, there.stop
            views.append(
                Views(
                    prompt_vectors[row], option_vectors[here], both_vectors[here],
                    evidence_vectors[there], texts, [e.text for e in found],
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
