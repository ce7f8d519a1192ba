"""What a run learns from and is judged by, made once and kept beside its checkpoints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.files import whole_file
from kaggle_rag.text.normalise import same
from training.retrieval.columns import rows_of
from training.retrieval.corpus import PassagePool, encode_queries, open_corpus
from training.retrieval.losses import RERANKER_LOSSES, RETRIEVER_LOSSES, Loss
from training.retrieval.mining import Example, mine_negatives, mine_positives
from training.retrieval.queries import RetrievalQuery, draw, read_queries, split, without
from training.retrieval.settings import RerankerSettings, RetrieverSettings

FILE = "material.json"


@dataclasses.dataclass(frozen=True)
class EvalQuery:
    """A question of the evaluation: ``positive`` and ``candidates`` (nearest first) are rows of the pool."""

    query: str
    positive: int
    candidates: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class RetrievalDataset:
    """``pool`` holds the passages an evaluation ranks; ``notes`` says how many of what there were."""

    examples: list[Example]
    held: list[EvalQuery]
    pool: list[str]
    notes: dict[str, int]

    def write(self, folder: Path) -> None:
        with whole_file(folder / FILE) as aside:
            aside.write_text(json.dumps(dataclasses.asdict(self), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> RetrievalDataset:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return cls(
            [Example(**{**e, "negatives": tuple(e["negatives"])}) for e in found["examples"]],
            [EvalQuery(**{**h, "candidates": tuple(h["candidates"])}) for h in found["held"]],
            found["pool"],
            found["notes"],
        )


def make_dataset(
    settings: RetrieverSettings | RerankerSettings, encoder: Encoder | None = None
) -> RetrievalDataset:
    """Read, mine and split what the settings name.

    Raises
    ------
    InputError : a fault of a file, or too little to learn from.
    """
    questions = read_queries(settings.questions, settings.positive, settings.forms)[: settings.limit]
    read = len(questions)
    barred = [*settings.exclude, *([settings.validation] if settings.validation else [])]
    questions = without(questions, barred)
    judged: list[RetrievalQuery] = []
    if settings.validation:
        judged = read_queries(settings.validation, settings.positive, settings.forms)
    corpus = open_corpus(settings, [x.positive for x in (*questions, *judged) if x.positive], encoder)
    left = len(questions)
    questions, judged = (
        mine_positives(x, corpus, settings.depth, settings.support) for x in (questions, judged)
    )
    if not settings.validation:
        questions, judged = split(questions, settings.held_out, settings.seed)
    examples = _examples(settings, questions, corpus)
    held, pool = _evaluation(settings, judged, corpus)
    notes = {
        "questions": read, "excluded": read - left,
        "without a positive": left - len(questions) - (0 if settings.validation else len(judged)),
        "learnt from": len(questions), "held out": len(judged), "passages": len(corpus),
        "examples": len(examples), "passages ranked": len(pool),
    }  # fmt: skip
    _enough(settings, examples, notes)
    return RetrievalDataset(examples, held, pool, notes)


def _examples(
    settings: RetrieverSettings | RerankerSettings, questions: Sequence[RetrievalQuery], corpus: PassagePool
) -> list[Example]:
    asked = draw(questions, settings.queries, settings.seed)
    if not settings.negatives:
        return [Example(questions[i].id, query, str(questions[i].positive)) for i, query in asked]
    examples = mine_negatives(
        questions, asked, corpus,
        count=settings.negatives, depth=settings.depth, margin=settings.margin, least=settings.support,
        seed=settings.seed,
    )  # fmt: skip
    # A batch is a rectangle: where every row must have all negatives, one that lacks some is left out.
    least = settings.negatives if _loss(settings).rows in ("tuple", "margin") else 1
    return [example for example in examples if len(example.negatives) >= least]


def _loss(settings: RetrieverSettings | RerankerSettings) -> Loss:
    table = RETRIEVER_LOSSES if isinstance(settings, RetrieverSettings) else RERANKER_LOSSES
    return table[settings.loss]


def _evaluation(
    settings: RetrieverSettings | RerankerSettings, judged: Sequence[RetrievalQuery], corpus: PassagePool
) -> tuple[list[EvalQuery], list[str]]:
    """The questions held out, and the passages to rank: all, or look-alikes, golds and random ones."""
    if not judged:
        return [], []
    count = settings.candidates if isinstance(settings, RerankerSettings) else settings.depth
    queries = [question.forms[0][0] for question in judged]
    _, near = corpus.search(encode_queries(corpus.encoder, queries), count)
    rows = np.arange(len(corpus))
    if len(corpus) > settings.pool:
        drawn = np.random.default_rng(settings.seed).choice(len(corpus), settings.pool, replace=False)
        mined = np.unique(near)
        rows = np.concatenate([mined, np.setdiff1d(drawn, mined)[: max(0, settings.pool - len(mined))]])
    texts = [*(corpus.text(int(row)) for row in rows), *(str(question.positive) for question in judged)]
    pool = {same(text): text for text in texts}
    place = {key: number for number, key in enumerate(pool)}
    # Two rows of an index may hold one text.
    candidates = [dict.fromkeys(place[same(corpus.text(int(row)))] for row in rows) for rows in near]
    held = [
        EvalQuery(query, place[same(str(question.positive))], tuple(mine))
        for query, question, mine in zip(queries, judged, candidates)
    ]
    return held, list(pool.values())


def _enough(
    settings: RetrieverSettings | RerankerSettings, examples: Sequence[Example], notes: dict[str, int]
) -> None:
    told = ", ".join(f"{count:,} {name}" for name, count in notes.items())
    kind = _loss(settings)
    rows = len(rows_of(kind.rows, examples)["query"]) if examples else 0
    if rows < settings.batch:
        raise InputError(
            f"{rows:,} examples do not fill a batch of {settings.batch} ({told})",
            where=settings.questions,
            cure="give more questions, a lower --support or a smaller --batch",
        )
    distinct = len({same(example.positive) for example in examples})
    if kind.distinct and distinct < settings.batch:
        raise InputError(
            f"{distinct:,} different positives do not fill a batch of {settings.batch}, in which each may "
            f"stand once ({told})",
            where=settings.questions,
            cure="use a smaller --batch, or another --loss",
        )
