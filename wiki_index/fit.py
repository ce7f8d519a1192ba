"""Weights of an index's retrievers, fitted on questions whose answering passage is known."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from kaggle_rag.config import ContextSettings
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.metrics import paired_bootstrap
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.retrieval.fusion import FUSIONS, MERGES, RetrieverScores
from kaggle_rag.retrieval.hybrid import HybridRetriever
from kaggle_rag.retrieval.queries import queries_of
from kaggle_rag.runtime.console import over, progress
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.words import counted
from kaggle_rag.text.normalise import same

K = 10
# Weights are tried in steps of 1 / _STEPS.
_STEPS = 20
# As many as a solution asks for that has nothing but the setting found here.
_HITS = ContextSettings().hits
_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Setting:
    """One retrieval setting, as under ``contexts:`` in a solution file."""

    retrievers: tuple[tuple[str, float], ...]
    fusion: str
    merge: str

    def yaml(self) -> str:
        weights = ", ".join(f"{name}: {weight:g}" for name, weight in self.retrievers)
        return f"{{retrievers: {{{weights}}}, fusion: {self.fusion}, merge: {self.merge}}}"


@dataclasses.dataclass(frozen=True)
class Case:
    """Each retriever's scores for one question's candidates, and which of them answer it."""

    opinions: dict[str, RetrieverScores]
    right: npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The setting to use, and the evidence for it.

    Attributes
    ----------
    setting : the best on one half of the questions, unless a single retriever is better on the other half.
    questions : how many were used.
    ndcg : nDCG@10 of the best setting on the half it was chosen on.
    held_out : nDCG@10 and recall@10 on the other half, by name: each retriever alone, and ``fitted``.
    gain : nDCG@10 of the fitted setting less that of the best single retriever, on the other half.
    refused : why the fitted setting is not recommended; empty if it is.
    """

    setting: Setting
    questions: int
    ndcg: float
    held_out: dict[str, tuple[float, float]]
    gain: str = ""
    refused: str = ""


def fit(index: Index, encoders: Mapping[str, Encoder], questions: Questions, gold: Sequence[str]) -> Fitted:
    """Try every setting on the even questions, and measure the best one on the odd ones.

    Parameters
    ----------
    encoders : those of the dense retrievers to weight, by name; BM25 is weighted too if the index has it.
    gold : the passage that answers each question, as text; passages that contain it count.

    Raises
    ------
    InputError : too few of those passages are found.
    """
    names = [*encoders, *(["bm25"] if index.manifest.lexical_rows else [])]
    cases = list(_cases(index, HybridRetriever(index, encoders, dict.fromkeys(names, 1.0)), questions, gold))
    answerable = [case for case in cases if case.right.any()]
    if len(answerable) < max(10, len(cases) // 10):
        raise InputError(
            f"only {len(answerable)} of {counted(len(cases), 'question has', 'questions have')} their "
            f"passage among the {_HITS} best",
            expected="a column that holds passages of this index",
            cure="check --gold, or index the text that the passages come from",
        )
    settings = list(_settings(names))
    scores = [_ndcg(cases[::2], setting) for setting in over(settings, "fit", "setting")]
    best = settings[int(np.argmax(scores))]
    alone = {name: Setting(((name, 1.0),), "weighted", "best") for name in names}
    held_out = {
        label: (_ndcg(cases[1::2], setting), _recall(cases[1::2], setting))
        for label, setting in {**alone, "fitted": best}.items()
    }
    setting, gain, refused = _recommend(best, alone, cases[1::2])
    return Fitted(setting, len(cases), max(scores), held_out, gain, refused)


def _recommend(best: Setting, alone: Mapping[str, Setting], held: Sequence[Case]) -> tuple[Setting, str, str]:
    """The setting to use, its gain over the best retriever on held-out cases, and why it is not ``best``.

    More retrievers cost more time per question, so a tie goes to the single retriever.
    """
    rival = max(alone, key=lambda name: _ndcg(held, alone[name]))
    gain = paired_bootstrap(_gains(held, best), _gains(held, alone[rival]))
    description = f"{gain} over {rival}"
    threshold = 0.0 if len(best.retrievers) > 1 else -1e-12
    if gain.difference.mean <= threshold:
        return alone[rival], description, f"on the held-out half it is no better than {rival} alone"
    return best, description, ""


def _settings(names: Sequence[str]) -> Iterator[Setting]:
    for shares in itertools.product(range(_STEPS + 1), repeat=len(names)):
        if sum(shares) == _STEPS:
            weights = tuple((n, share / _STEPS) for n, share in zip(names, shares) if share)
            for fusion, merge in itertools.product(FUSIONS, MERGES):
                yield Setting(weights, fusion, merge)


def _cases(index: Index, panel: HybridRetriever, questions: Questions, gold: Sequence[str]) -> Iterator[Case]:
    defaults = ContextSettings()
    with progress(len(questions), "search", "question") as bar:
        for start in range(0, len(questions), _BATCH):
            batch = questions.take(range(start, min(start + _BATCH, len(questions))))
            queries = queries_of(batch, defaults.forms, defaults.instruction_forms)
            results = panel.ask([query.text for each in queries for query in each], _HITS)
            first = 0
            for each, answer in zip(queries, gold[start:]):
                rows, opinions = results.opinions(slice(first, first + len(each)))
                first += len(each)
                texts = [_plain(passage.text) for passage in index.passages.take(rows)]
                yield Case(opinions, np.array([_plain(answer) in text for text in texts]))
            bar.update(len(batch))


def _plain(text: str) -> str:
    return same(text).strip(" \"'.")


def _order(case: Case, setting: Setting) -> npt.NDArray[np.int64]:
    opinions = [case.opinions[name]._replace(weight=weight) for name, weight in setting.retrievers]
    scores = MERGES[setting.merge](FUSIONS[setting.fusion](opinions))
    return np.argsort(-scores, kind="stable")[:K]


def _ndcg(cases: Sequence[Case], setting: Setting) -> float:
    """Mean nDCG@10 with one relevant passage, the first that answers: ``1 / log2(1 + its rank)``, or 0."""
    return float(_gains(cases, setting).mean())


def _gains(cases: Sequence[Case], setting: Setting) -> npt.NDArray[np.float64]:
    """nDCG@10 of each case, ``(n,)``."""
    hits = [case.right[_order(case, setting)] for case in cases]
    return np.array([1 / np.log2(2 + hit.argmax()) if hit.any() else 0.0 for hit in hits])


def _recall(cases: Sequence[Case], setting: Setting) -> float:
    return float(np.mean([case.right[_order(case, setting)].any() for case in cases]))
