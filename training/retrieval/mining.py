"""Passages that answer, and passages that only look as if they did, found among the nearest."""

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
# Queries searched at once: bounds the rows and cosines that lie in memory.
_BATCH = 1024
# Random passages drawn for each negative wanted: enough that some of them are no answers.
_DRAWS = 4


@dataclasses.dataclass(frozen=True)
class Example:
    """A query, the passage that answers it, and passages that do not."""

    id: str
    query: str
    positive: str
    negatives: tuple[str, ...] = ()


def support(option: str, passage: str) -> float:
    """Share of the option's words, each with its number of times ignored, that the passage holds."""
    words = set(_WORD.findall(option.lower()))
    return len(words & set(_WORD.findall(passage.lower()))) / len(words) if words else 0.0


def mine_positives(
    questions: Sequence[RetrievalQuery], corpus: PassagePool, depth: int, least: float
) -> list[RetrievalQuery]:
    """The questions that have a supporting passage, with it; one that has its gold keeps it.

    A passage supports the answer when it is among the ``depth`` nearest to prompt and right option,
    holds at least the share ``least`` of the right option's words, and more than of any wrong one.
    The nearest such passage is taken. The answer finds the passage; it stands in no query.
    """
    without = [question for question in questions if question.positive is None]
    found = {}
    with bar("mine positives", len(without)) as shown:
        for start in range(0, len(without), _BATCH):
            part = without[start : start + _BATCH]
            queries = encode_queries(corpus.encoder, [f"{x.prompt} {x.right}" for x in part])
            _, rows = corpus.search(queries, depth)
            for question, near in zip(part, rows):
                found[question.id] = _supporting(question, [corpus.text(int(row)) for row in near], least)
                shown.update()
    filled = [dataclasses.replace(x, positive=x.positive or found.get(x.id)) for x in questions]
    return [question for question in filled if question.positive is not None]


def _supporting(question: RetrievalQuery, passages: Sequence[str], least: float) -> str | None:
    for passage in passages:
        share = support(question.right, passage)
        if share >= least and share > max((support(o, passage) for o in question.wrong), default=0.0):
            return passage
    return None


def mine_negatives(
    questions: Sequence[RetrievalQuery],
    asked: Sequence[tuple[int, str]],
    corpus: PassagePool,
    *,
    count: int,
    depth: int,
    margin: float,
    least: float,
    seed: int,
) -> list[Example]:
    """Examples of the queries asked, each with ``count`` negatives, hard ones first.

    A hard negative is among the ``depth`` nearest to the query, is no positive of the same question,
    does not support its right option, and has a cosine of at most ``margin`` times the positive's: nearer
    ones are too often unmarked answers. Source: Moreira et al. 2024, NV-Retriever (TopK-PercPos, 95 %),
    https://arxiv.org/abs/2407.15831. A query whose positive is found late has few or none of them; random
    passages fill its place, for it is these queries that have most to learn.

    Parameters
    ----------
    asked : (question, query) pairs, as `training.retrieval.queries.draw` gives them; every question has its
        positive.
    """
    rng = np.random.default_rng(seed)
    examples = []
    with bar("mine negatives", len(asked)) as shown:
        for start in range(0, len(asked), _BATCH):
            part = [(questions[number], query) for number, query in asked[start : start + _BATCH]]
            queries = encode_queries(corpus.encoder, [query for _, query in part])
            cosines, rows = corpus.search(queries, depth)
            ceilings = _cosines(corpus, queries, [str(question.positive) for question, _ in part]) * margin
            for (question, query), near, values, ceiling in zip(part, rows, cosines, ceilings):
                others = rng.integers(0, len(corpus), _DRAWS * count)
                kept: dict[str, str] = {}
                for row in (*near[values <= ceiling], *others):
                    text = corpus.text(int(row))
                    if len(kept) < count and _is_negative(question, text, least):
                        kept.setdefault(same(text), text)
                examples.append(Example(question.id, query, str(question.positive), tuple(kept.values())))
                shown.update()
    return examples


def _is_negative(question: RetrievalQuery, passage: str, least: float) -> bool:
    return same(passage) != same(str(question.positive)) and support(question.right, passage) < least


def _cosines(corpus: PassagePool, queries: Vectors, golds: Sequence[str]) -> Cosines:
    """The cosine of each query to its own gold, ``(n,)``, by the encoder of the corpus."""
    distinct = list(dict.fromkeys(golds))
    place = {text: number for number, text in enumerate(distinct)}
    vectors = encode_passages(corpus.encoder, distinct)[[place[text] for text in golds]]
    return np.asarray((queries * vectors).sum(axis=1))
