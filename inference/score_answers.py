"""Score answers in words: exact match, token F1, accuracy, BERTScore, and what is not from the evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kaggle_rag.data.answers import Answer, AnswersFile
from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.open_questions import OpenQuestions
from kaggle_rag.evaluation.answers import (
    BertScore,
    bert_score,
    contains,
    exact_match,
    inverse_frequencies,
    token_f1,
    tokens_of,
    unsupported,
)
from kaggle_rag.evaluation.metrics import Interval, bootstrap
from kaggle_rag.runtime.console import progress, say
from kaggle_rag.runtime.errors import ConfigError, InputError
from kaggle_rag.runtime.words import counted

# Questions whose tokens' vectors are in memory at once.
_AT_ONCE = 256


class BertSettings(NamedTuple):
    """How BERTScore is computed: see `kaggle_rag.models.token_vectors.TokenEncoder`."""

    encoder: str
    layer: int | None
    idf: bool
    device: str | None

    @classmethod
    def of(
        cls, encoder: str | None, layer: int | None, *, idf: bool, device: str | None
    ) -> BertSettings | None:
        """The settings of the flags; ``None`` if no encoder is named."""
        if encoder is not None:
            return cls(encoder, layer, idf, device)
        if layer is not None or idf or device:
            raise ConfigError(
                "--layer, --idf and --device are those of BERTScore", expected="--encoder FOLDER with them"
            )
        return None


@dataclasses.dataclass(frozen=True)
class AnswersReport:
    """The scores of answers in words, each a mean over questions with its 95 % bootstrap interval.

    Attributes
    ----------
    questions, unknown : how many were scored, and how many have no known answer and were left out.
    unsupported : share of an answer's tokens that are not in its context, over answers that have tokens.
    empty : answers without tokens.
    bert : by ``precision``, ``recall`` and ``f1``; ``bert_of`` says of which encoder and layer.
    """

    questions: int
    unknown: int
    empty: int
    exact_match: Interval
    f1: Interval
    accuracy: Interval
    unsupported: Interval | None
    bert: dict[str, Interval] | None
    bert_of: str

    def as_json(self) -> dict[str, Any]:
        """The figures as plain JSON."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """The figures as readable text."""
        lines = [("exact match", self.exact_match), ("F1", self.f1)]
        lines.append(("accuracy (holds a right answer)", self.accuracy))
        lines += [(f"BERTScore {name}", value) for name, value in (self.bert or {}).items()]
        if self.unsupported:
            lines.append(("tokens not in the context", self.unsupported))
        width = max(len(name) for name, _ in lines)
        empty = f", {counted(self.empty, 'answer is', 'answers are')} empty" if self.empty else ""
        head = counted(self.questions, "question") + empty
        notes = [f"BERTScore: {self.bert_of}"] if self.bert else []
        if self.unknown:
            unknown = counted(self.unknown, "question has", "questions have")
            notes.append(f"{unknown} no known answer: left out")
        return "\n".join([head, "", *(f"{name:<{width}}  {value}" for name, value in lines), *notes])


def score(
    answers: Path, questions: Path, contexts: Path | None, bert: BertSettings | None, limit: int | None
) -> AnswersReport:
    """Score a file of answers against the right ones.

    Parameters
    ----------
    contexts : of the questions, where the file of answers does not hold what was read.

    Raises
    ------
    InputError, ArtifactError : no right answers, or files of different questions.
    """
    asked = OpenQuestions.read(questions).first(limit)
    given = AnswersFile.read(answers).of(asked.questions, answers, some=limit is not None)
    snippets = _snippets(asked, given, contexts)
    rows = [row for row, golds in enumerate(asked.golds) if golds]
    if not rows:
        raise InputError(
            "no question has a right answer", where=questions, expected="a column answer or answers",
            cure="score against questions with their answers; test files have none",
        )  # fmt: skip
    texts, golds = [given[row].text for row in rows], [asked.golds[row] for row in rows]
    em, f1, hold = (
        bootstrap([of(*pair) for pair in zip(texts, golds)]) for of in (exact_match, token_f1, contains)
    )
    similar, named = _bert(texts, golds, bert) if bert else (None, "")
    return AnswersReport(
        len(rows), len(asked) - len(rows), sum(not tokens_of(text) for text in texts), em, f1, hold,
        _unsupported(texts, [snippets[row] for row in rows]), similar, named,
    )  # fmt: skip


def _snippets(asked: OpenQuestions, given: Sequence[Answer], contexts: Path | None) -> list[list[str] | None]:
    """The evidence of each question: of the contexts file if there is one, else what the answers say."""
    if contexts is None:
        return [None if answer.context is None else [answer.context] for answer in given]
    found = read_contexts(contexts, asked.questions)
    texts = []
    for each in found:
        parts = each.by_option or (each.shared,)
        texts.append([str(snippet) for part in parts if part for snippet in part.snippets])
    return [*texts]


def _unsupported(texts: Sequence[str], snippets: Sequence[list[str] | None]) -> Interval | None:
    """The mean over answers that have tokens and a known context; ``None`` if none has."""
    shares = np.array([unsupported(text, known) for text, known in zip(texts, snippets) if known is not None])
    shares = shares[~np.isnan(shares)]
    return bootstrap(shares) if len(shares) else None


def _bert(
    texts: Sequence[str], golds: Sequence[Sequence[str]], settings: BertSettings
) -> tuple[dict[str, Interval], str]:
    """BERTScore by the right answer with the best F1, and what computed it."""
    from kaggle_rag.models.token_vectors import TokenEncoder

    encoder = TokenEncoder(settings.encoder, settings.layer, settings.device)
    weights = None
    if settings.idf:
        weights = inverse_frequencies([encoder.tokens(gold) for each in golds for gold in each])
    scores: list[BertScore] = []
    with progress(len(texts), "BERTScore", "answer", disable=len(texts) < _AT_ONCE) as bar:
        for start in range(0, len(texts), _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, len(texts)))
            wanted = dict.fromkeys(text for row in some for text in (texts[row], *golds[row]))
            read = dict(zip(wanted, encoder([*wanted])))
            for row in some:
                pairs = [(read[texts[row]], read[gold]) for gold in golds[row]]
                scores.append(max((_matched(*pair, weights) for pair in pairs), key=lambda s: s.f1))
            bar.update(len(some))
    if encoder.shortened:
        say(f"note: {counted(encoder.shortened, 'text was', 'texts were')} longer than the encoder, and cut")
    named = f"{settings.encoder}, layer {encoder.layer}" + (", idf" if settings.idf else "")
    columns = zip(BertScore._fields, zip(*scores))
    return {name: bootstrap(values) for name, values in columns}, named


def _matched(answer: Any, gold: Any, weights: Any) -> BertScore:
    """The score of two texts' token vectors, with the weights of their tokens."""
    if weights is None:
        return bert_score(answer.vectors, gold.vectors)
    of = [np.array([weights[token] for token in text.ids]) for text in (answer, gold)]
    return bert_score(answer.vectors, gold.vectors, *of)
