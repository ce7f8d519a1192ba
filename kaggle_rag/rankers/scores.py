"""Training-free scores of options: short formulas over cosines of unit vectors and words of the evidence.

They were compared on questions that are not reported; ``docs/results.md`` lists them all.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kaggle_rag.index.vectors import Vectors

Scores = npt.NDArray[np.float64]
_WORD = re.compile(r"\w+")


@dataclasses.dataclass(frozen=True)
class Views:
    """One question as a score sees it: ``k`` present options, ``m`` pieces of evidence.

    Attributes
    ----------
    prompt : ``(d,)`` vector of the prompt.
    options : ``(k, d)`` vectors of the options alone.
    both : ``(k, d)`` vectors of prompt + option.
    evidence : ``(m, d)`` vectors of the evidence, ``m`` at least 1.
    option_texts, evidence_texts, prompt_text : their words.
    language : of the texts, as `kaggle_rag.index.lexical.content_words` takes it.
    """

    prompt: Vectors
    options: Vectors
    both: Vectors
    evidence: Vectors
    option_texts: Sequence[str]
    evidence_texts: Sequence[str]
    prompt_text: str = ""
    language: str = "en"


def words_only(q: Views) -> Scores:
    """Cosine of prompt and option: what the question alone says."""
    return np.asarray(q.options @ q.prompt, dtype=np.float64)


def best_both(q: Views) -> Scores:
    """Cosine of the best sentence for prompt + option."""
    return np.asarray((q.evidence @ q.both.T).max(axis=0), dtype=np.float64)


def best_option(q: Views) -> Scores:
    """Cosine of the best sentence for the option alone."""
    return np.asarray((q.evidence @ q.options.T).max(axis=0), dtype=np.float64)


def best_sum(q: Views) -> Scores:
    """Best sentence by the sum of both cosines: it must be about both the option and the question."""
    return np.asarray((q.evidence @ (q.both + q.options).T).max(axis=0), dtype=np.float64)


def top_three(q: Views) -> Scores:
    """Mean cosine of the three best sentences for prompt + option."""
    return np.asarray(np.sort(q.evidence @ q.both.T, axis=0)[-3:].mean(axis=0), dtype=np.float64)


def overlap(q: Views) -> Scores:
    """Largest share of the option's words that one sentence contains."""
    return np.array(
        [max(_share(words(option), words(text)) for text in q.evidence_texts) for option in q.option_texts]
    )


def bm25(q: Views) -> Scores:
    """BM25 of the option in its best-matching sentence, with the evidence as the collection.

    Source: Robertson & Zaragoza 2009, https://doi.org/10.1561/1500000019, with k1 = 1.2, b = 0.75
    and Lucene's idf.
    """
    documents = [Counter(words(text)) for text in q.evidence_texts]
    document_counts = Counter(word for document in documents for word in document)
    lengths = np.array([max(sum(document.values()), 1) for document in documents])
    norms = 1.2 * (0.25 + 0.75 * lengths / lengths.mean())
    scores = np.zeros(len(q.option_texts))
    for column, option in enumerate(q.option_texts):
        total = np.zeros(len(documents))
        for word in set(words(option)):
            count = np.array([document[word] for document in documents])
            containing = document_counts[word]
            idf = np.log(1 + (len(documents) - containing + 0.5) / (containing + 0.5))
            total += idf * count / (count + norms)
        scores[column] = total.max()
    return scores


def lift(q: Views) -> Scores:
    """`best_both` minus half the cosine of prompt and prompt + option, which needs no evidence."""
    return best_both(q) - 0.5 * (q.both @ q.prompt)


def novel(q: Views) -> Scores:
    """`lift` plus agreement beyond the prompt: the best score by vectors alone.

    A sentence that repeats the prompt is near every option. With the prompt's direction removed from
    sentence and prompt + option, what remains is what the option adds; its cosine is weighted by how
    much the sentence is about the prompt. A little of `words_only` settles the rest.
    """
    about = q.evidence @ q.prompt
    added = _unit(q.both - np.outer(q.both @ q.prompt, q.prompt))
    said = _unit(q.evidence - np.outer(about, q.prompt))
    agreement = (about[:, None] * (said @ added.T)).max(axis=0)
    return np.asarray(lift(q) + 0.5 * agreement + 0.25 * words_only(q), dtype=np.float64)


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _share(wanted: Sequence[str], available: Sequence[str]) -> float:
    return len(set(wanted) & set(available)) / max(len(set(wanted)), 1)


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), dtype=np.float32)
