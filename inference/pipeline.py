"""The stages of an answer, each measured, each refused at its start when it cannot fit."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kaggle_rag.artifacts import MANIFEST, Manifest, sha256
from kaggle_rag.config import Solution
from kaggle_rag.ensemble import Probabilities, blend
from kaggle_rag.errors import ConfigError
from kaggle_rag.limits import Need, measured, require
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.questions import Questions
from kaggle_rag.rankers.registry import make_ranker
from kaggle_rag.retrieval.contexts import (
    QuestionContexts,
    read_contexts,
    read_notes,
    write_contexts,
)  # fmt: skip
from kaggle_rag.retrieval.encoder import Encoder
from kaggle_rag.retrieval.index import Index
from kaggle_rag.retrieval.kinds import ram_of
from kaggle_rag.retrieval.retriever import Retriever

# torch, the model and one batch of questions; measured on the sample and on 4,000 questions.
_BASE_RAM = 1_000_000_000


@dataclasses.dataclass
class Bench:
    """What the stages of one run share: the index and the encoder, opened once."""

    solution: Solution
    index: Index | None
    encoder: Encoder

    @classmethod
    def open(cls, solution: Solution) -> Bench:
        if solution.index is None:
            return cls(solution, None, Encoder(solution.encoder or DEFAULT_ENCODER, device=solution.device))
        require(_contexts_need(solution.index), ram=solution.limits.ram, gpu=solution.limits.gpu)
        index = Index(solution.index)
        card = index.manifest.encoder
        return cls(solution, index, Encoder.of_index(card, name=solution.encoder, device=solution.device))


def given(solution: Solution, *keys: str) -> None:
    """Raise ``ConfigError`` unless every key is set."""
    if missing := [key for key in keys if getattr(solution, key) is None]:
        raise ConfigError(
            "not given: " + ", ".join(missing),
            expected=", ".join(f"--{key}" for key in missing) + " or the same keys in solution.yaml",
        )


def find_contexts(bench: Bench, questions: Questions, *, quiet: bool = False) -> list[QuestionContexts]:
    """The contexts stage in memory."""
    if bench.index is None:
        raise ConfigError("no index to find contexts in", expected="--index")
    with _stage("contexts", quiet):
        retriever = Retriever(bench.index, bench.encoder, bench.solution.contexts)
        return retriever(questions, progress=not quiet)


def contexts_to_file(solution: Solution) -> bool:
    """The contexts stage on disk; ``False`` when ``out`` holds these very contexts already."""
    given(solution, "questions", "index", "out")
    assert solution.questions and solution.index and solution.out
    questions = Questions.read(solution.questions)
    notes = _notes(solution)
    if read_notes(solution.out) == notes:
        read_contexts(solution.out, questions)
        return False
    write_contexts(solution.out, questions, find_contexts(Bench.open(solution), questions), notes)
    return True


def predict(
    bench: Bench, questions: Questions, contexts: Sequence[QuestionContexts] | None, *, quiet: bool = False
) -> Probabilities:
    """Every ranker in turn, each given its memory back, then the blend."""
    tables, weights = [], []
    for settings in bench.solution.rankers:
        with _stage(f"rank: {settings.kind}", quiet):
            made = make_ranker(settings.kind, settings.options, encoder=bench.encoder, index=bench.index)
            with made as ranker:
                tables.append(ranker.probabilities(questions, contexts))
        weights.append(settings.weight)
    return blend(tables, weights, questions.present, bench.solution.blend)


def contexts_for(
    bench: Bench, questions: Questions, *, without: bool = False
) -> list[QuestionContexts] | None:
    """Contexts from the file or the index the solution names; ``None`` when asked to do without."""
    if without:
        return None
    if bench.solution.contexts_file is not None:
        return read_contexts(bench.solution.contexts_file, questions)
    return find_contexts(bench, questions)


def _contexts_need(index: Path) -> Need:
    # Mapped pages of a FAISS file count as resident while they are searched.
    manifest = Manifest.read(index)
    mapped = sum(ram_of(c.kind, manifest.passages, c.encoder.dim) for c in manifest.dense.values())
    return Need(
        "contexts",
        _BASE_RAM + mapped,
        "raise limits.ram (--ram), or build a smaller kind of index (wiki_index build --ram)",
    )


def _notes(solution: Solution) -> dict[str, Any]:
    """What decides the contexts: the questions, the index, the settings."""
    assert solution.questions and solution.index
    Index(solution.index, verify_content=False)
    settings = json.loads(solution.contexts.model_dump_json())
    return {
        "questions": sha256(solution.questions),
        "index": sha256(solution.index / MANIFEST),
        "contexts": settings,
    }


@contextmanager
def _stage(name: str, quiet: bool) -> Iterator[None]:
    with measured(name) as usage:
        yield
    if not quiet:
        print(usage, file=sys.stderr)
