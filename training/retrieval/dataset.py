"""The data a run is trained and evaluated on, built once and stored beside its checkpoints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kaggle_rag.evaluation import learnt
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.files import whole_file
from kaggle_rag.runtime.words import all_counted, counted
from kaggle_rag.text.normalise import same
from training.retrieval.columns import rows_of
from training.retrieval.corpus import PassagePool, encode_queries, open_corpus
from training.retrieval.losses import RERANKER_LOSSES, RETRIEVER_LOSSES, Loss
from training.retrieval.mining import Example, mine_negatives, mine_positives
from training.retrieval.queries import RetrievalQuery, draw, read_queries, split, table_of, without
from training.retrieval.settings import RerankerSettings, RetrieverSettings
from training.retrieval.support import read_support, with_others, with_support

FILE = "material.json"
# Share of the words of a passage that is deleted, for tsdae to restore.
_DELETED = 0.6


@dataclasses.dataclass(frozen=True)
class EvalQuery:
    """An evaluation question: ``positive`` and ``candidates`` (nearest first) are rows of the pool."""

    query: str
    positive: int
    candidates: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class RetrievalDataset:
    """Examples, and what they are evaluated on.

    Attributes
    ----------
    pool : the passages that an evaluation ranks.
    notes : counts of the questions and examples.
    marks : of the questions that are trained on or evaluated, see `kaggle_rag.evaluation.learnt.marks`.
    """

    examples: list[Example]
    held: list[EvalQuery]
    pool: list[str]
    notes: dict[str, int]
    marks: list[str] = dataclasses.field(default_factory=list)

    def write(self, folder: Path) -> None:
        with whole_file(folder / FILE) as aside:
            aside.write_text(json.dumps(dataclasses.asdict(self), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> RetrievalDataset:
        saved = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return cls(
            [Example(**{**e, "negatives": tuple(e["negatives"])}) for e in saved["examples"]],
            [EvalQuery(**{**q, "candidates": tuple(q["candidates"])}) for q in saved["held"]],
            saved["pool"],
            saved["notes"],
            saved.get("marks", []),
        )


def make_dataset(
    settings: RetrieverSettings | RerankerSettings, encoder: Encoder | None = None
) -> RetrievalDataset:
    """Read, mine and split the data that the settings name.

    Raises
    ------
    InputError : a fault in a file, or too little to train on.
    """
    questions = read_queries(settings.questions, settings.positive, settings.forms)[: settings.limit]
    total, ids = len(questions), {each.id for each in questions}
    excluded_files = [*settings.exclude, *([settings.validation] if settings.validation else [])]
    questions = without(questions, excluded_files)
    remaining = len(questions)
    table = read_support(settings.supported) if settings.supported else {}
    if settings.supported:
        excluded = ids.difference(each.id for each in questions)
        questions = with_support(questions, table, settings.supported, excluded)
    evaluated: list[RetrievalQuery] = []
    if settings.validation:
        evaluated = read_queries(settings.validation, settings.positive, settings.forms)
    corpus = open_corpus(settings, [x.positive for x in (*questions, *evaluated) if x.positive], encoder)
    questions, evaluated = (
        mine_positives(x, corpus, settings.depth, settings.support) for x in (questions, evaluated)
    )
    missing = remaining - len(questions)
    if not settings.validation:
        questions, evaluated = split(questions, settings.held_out, settings.seed)
    if isinstance(settings, RetrieverSettings) and _loss(settings).denoises:
        examples, questions = _damaged(corpus, settings.drawn, settings.seed), []
    else:
        examples = _examples(settings, questions, corpus, table)
    held, pool = _evaluation(settings, evaluated, corpus)
    notes = {
        "questions": total, "excluded": total - remaining,
        "without a positive": missing,
        "learnt from": len(questions), "held out": len(evaluated), "passages": len(corpus),
        "examples": len(examples), "passages ranked": len(pool),
    }  # fmt: skip
    _require_enough(settings, examples, notes)
    marks = [mark for some in (questions, evaluated) if some for mark in learnt.marks(table_of(some))]
    return RetrievalDataset(examples, held, pool, notes, marks)


def _examples(
    settings: RetrieverSettings | RerankerSettings, questions: Sequence[RetrievalQuery], corpus: PassagePool,
    table: Mapping[str, Sequence[str]],
) -> list[Example]:  # fmt: skip
    drawn = draw(questions, settings.queries, settings.seed)
    if not settings.negatives:
        return [Example(questions[i].id, query, str(questions[i].positive)) for i, query in drawn]
    examples = mine_negatives(
        questions, drawn, corpus,
        count=settings.negatives, depth=settings.depth, margin=settings.margin, least=settings.support,
        seed=settings.seed,
    )  # fmt: skip
    examples = with_others(examples, table, settings.negatives)
    # Batches are rectangular: where every row needs all negatives, rows that lack some are dropped.
    least = settings.negatives if _loss(settings).rows in ("tuple", "margin") else 1
    return [example for example in examples if len(example.negatives) >= least]


def _damaged(corpus: PassagePool, count: int, seed: int) -> list[Example]:
    """Passages, and the same without most of their words: what the loss restores.

    Source: Wang, Reimers & Gurevych 2021, TSDAE, https://arxiv.org/abs/2104.06979 (words deleted at 0.6).
    """
    rng = np.random.default_rng(seed)
    examples = []
    for row in rng.permutation(len(corpus))[:count].tolist():
        words = np.array(corpus.text(row).split() or [""])
        kept = rng.random(len(words)) >= _DELETED
        # At least one word remains.
        kept[rng.integers(len(words))] |= not kept.any()
        examples.append(Example(str(row), " ".join(words[kept]), corpus.text(row)))
    return examples


def _loss(settings: RetrieverSettings | RerankerSettings) -> Loss:
    table = RETRIEVER_LOSSES if isinstance(settings, RetrieverSettings) else RERANKER_LOSSES
    return table[settings.loss]


def _evaluation(
    settings: RetrieverSettings | RerankerSettings, questions: Sequence[RetrievalQuery], corpus: PassagePool
) -> tuple[list[EvalQuery], list[str]]:
    """The held-out questions, and the passages to rank: all, or mined, gold and random ones."""
    if not questions:
        return [], []
    count = settings.candidates if isinstance(settings, RerankerSettings) else settings.depth
    queries = [question.forms[0][0] for question in questions]
    _, near = corpus.search(encode_queries(corpus.encoder, queries), count)
    rows = np.arange(len(corpus))
    if len(corpus) > settings.pool:
        drawn = np.random.default_rng(settings.seed).choice(len(corpus), settings.pool, replace=False)
        mined = np.unique(near)
        others = drawn[~np.isin(drawn, mined)]
        rows = np.concatenate([mined, others[: max(0, settings.pool - len(mined))]])
    texts = [*(corpus.text(int(row)) for row in rows), *(str(question.positive) for question in questions)]
    pool = {same(text): text for text in texts}
    positions = {key: number for number, key in enumerate(pool)}
    # Two rows of an index may hold the same text.
    candidates = [dict.fromkeys(positions[same(corpus.text(int(row)))] for row in rows) for rows in near]
    held = [
        EvalQuery(query, positions[same(str(question.positive))], tuple(rows))
        for query, question, rows in zip(queries, questions, candidates)
    ]
    return held, list(pool.values())


def _require_enough(
    settings: RetrieverSettings | RerankerSettings, examples: Sequence[Example], notes: dict[str, int]
) -> None:
    counts = all_counted(notes)
    kind = _loss(settings)
    rows = len(rows_of(kind.rows, examples)["query"]) if examples else 0
    distinct = len({same(example.positive) for example in examples})
    fills = min(rows, distinct) if kind.distinct else rows
    if rows < settings.batch:
        raise InputError(
            f"{counted(rows, 'example does', 'examples do')} not fill a batch of {settings.batch} ({counts})",
            where=settings.questions,
            cure=_more(settings, notes, fills),
        )
    if kind.distinct and distinct < settings.batch:
        smaller = f"--batch {_largest_batch(distinct)} or " if distinct > 1 else ""
        raise InputError(
            f"{counted(distinct, 'distinct positive does', 'distinct positives do')} not fill a batch of "
            f"{settings.batch}, which may contain each only once ({counts})",
            where=settings.questions,
            cure=f"use {smaller}another --loss",
        )


def _largest_batch(rows: int) -> int:
    """The largest power of two that so many rows fill."""
    return 1 << (rows.bit_length() - 1)


def _more(settings: RetrieverSettings | RerankerSettings, notes: Mapping[str, int], rows: int) -> str:
    """What gives more examples: a setting that has no effect here would be no help."""
    ways = [f"--batch {_largest_batch(rows)}"] if rows > 1 else []
    if not _loss(settings).denoises:
        if notes["held out"] and not settings.validation:
            ways.insert(0, "a lower --held-out")
        if settings.supported:
            ways.insert(0, f"more questions that {settings.supported} has")
        else:
            ways[:0] = ["more questions"] if settings.positive else ["more questions", "a lower --support"]
    *first, last = ways
    return "use " + (", ".join(first) + " or " if first else "") + last
