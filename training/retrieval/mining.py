"""Mine passages that answer, and passages that only look as if they do, among the nearest."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from kaggle_rag.index.vectors import Vectors
from kaggle_rag.runtime.console import bar
from kaggle_rag.text.normalise import same
from training.retrieval.corpus import Cosines, PassagePool, encode_passages, encode_queries
from training.retrieval.queries import RetrievalQuery

_WORD = re.compile(r"\w+")
# Queries searched at once: bounds the rows and cosines in memory.
_BATCH = 1024
# Random passages drawn per negative needed: enough that some of them are not answers.
_DRAWS = 4


@dataclasses.dataclass(frozen=True)
class Example:
    """A query, the passage that answers it, and passages that do not."""

    id: str
    query: str
    positive: str
    negatives: tuple[str, ...] = ()


def support(option: str, passage: str) -> float:
    """Share of the option's distinct words that the passage contains."""
    words = set(_WORD.findall(option.lower()))
    return len(words & set(_WORD.findall(passage.lower()))) / len(words) if words else 0.0


def mine_positives(
    questions: Sequence[RetrievalQuery], corpus: PassagePool, depth: int, least: float
) -> list[RetrievalQuery]:
    """The questions that have a supporting passage, each with it; gold passages are kept.

    A passage supports the answer if it is among the ``depth`` nearest to prompt and right option,
    contains at least the share ``least`` of the right option's words, and more than of any wrong one.
    The nearest such passage is taken. The answer finds the passage, but no query contains it.
    """
    without = [question for question in questions if question.positive is None]
    mined = {}
    with bar("mine positives", len(without)) as counter:
        for start in range(0, len(without), _BATCH):
            batch = without[start : start + _BATCH]
            queries = encode_queries(corpus.encoder, [f"{x.prompt} {x.right}" for x in batch])
            _, rows = corpus.search(queries, depth)
            for question, nearest in zip(batch, rows):
                mined[question.id] = _supporting(question, [corpus.text(int(row)) for row in nearest], least)
            counter.update(len(batch))
    filled = [dataclasses.replace(x, positive=x.positive or mined.get(x.id)) for x in questions]
    return [question for question in filled if question.positive is not None]


def _supporting(question: RetrievalQuery, passages: Sequence[str], least: float) -> str | None:
    for passage in passages:
        share = support(question.right, passage)
        if share >= least and share > max((support(o, passage) for o in question.wrong), default=0.0):
            return passage
    return None


def mine_negatives(
    questions: Sequence[RetrievalQuery],
    drawn: Sequence[tuple[int, str]],
    corpus: PassagePool,
    *,
    count: int,
    depth: int,
    margin: float,
    least: float,
    seed: int,
) -> list[Example]:
    """Examples of the drawn queries, each with ``count`` negatives, hard ones first.

    A hard negative is among the ``depth`` nearest to the query, is not the question's positive, does not
    support its right option, and has a cosine of at most ``margin`` times the positive's: nearer ones are
    too often unlabelled answers. Source: Moreira et al. 2024, NV-Retriever (TopK-PercPos, 95 %),
    https://arxiv.org/abs/2407.15831. A query whose positive ranks low has few or none of them; random
    passages fill the gap, because the model has most to learn from these queries.

    Parameters
    ----------
    drawn : (question, query) pairs, as `training.retrieval.queries.draw` gives them; every question has its
        positive.
    """
    rng = np.random.default_rng(seed)
    examples = []
    with bar("mine negatives", len(drawn)) as counter:
        for start in range(0, len(drawn), _BATCH):
            batch = [(questions[number], query) for number, query in drawn[start : start + _BATCH]]
            queries = encode_queries(corpus.encoder, [query for _, query in batch])
            cosines, rows = corpus.search(queries, depth)
            ceilings = _cosines(corpus, queries, [str(question.positive) for question, _ in batch]) * margin
            for (question, query), nearest, values, ceiling in zip(batch, rows, cosines, ceilings):
                others = rng.integers(0, len(corpus), _DRAWS * count)
                negatives: dict[str, str] = {}
                for row in (*nearest[values <= ceiling], *others):
                    text = corpus.text(int(row))
                    if len(negatives) < count and _is_negative(question, text, least):
                        negatives.setdefault(same(text), text)
                gold = str(question.positive)
                examples.append(Example(question.id, query, gold, tuple(negatives.values())))
            # A batch is searched at once: the first of its queries would pay for all of them.
            counter.update(len(batch))
    return examples


def _is_negative(question: RetrievalQuery, passage: str, least: float) -> bool:
    return same(passage) != same(str(question.positive)) and support(question.right, passage) < least


def _cosines(corpus: PassagePool, queries: Vectors, golds: Sequence[str]) -> Cosines:
    """The cosine of each query to its own gold, ``(n,)``, by the encoder of the corpus."""
    distinct = list(dict.fromkeys(golds))
    positions = {text: number for number, text in enumerate(distinct)}
    vectors = encode_passages(corpus.encoder, distinct)[[positions[text] for text in golds]]
    return np.asarray((queries * vectors).sum(axis=1))
