"""The contexts stage on disk, batch by batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from inference.context_batches import ContextBatches
from kaggle_rag.config import Solution
from kaggle_rag.data.contexts import read_contexts, read_notes
from kaggle_rag.data.questions import Questions
from kaggle_rag.index.index import Index
from kaggle_rag.index.manifest import MANIFEST
from kaggle_rag.rankers.resources import Resources
from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.files import sha256
from kaggle_rag.runtime.limits import stage


def contexts_to_file(solution: Solution, questions: Questions) -> bool:
    """The contexts stage on disk; ``False`` when ``out`` holds these very contexts already.

    Every batch of questions is kept beside ``out`` until all are there, so a killed run goes on.
    """
    assert solution.out
    notes = _notes(solution)
    found = read_notes(solution.out)
    if found == notes:
        read_contexts(solution.out, questions)
        return False
    if found is None and solution.out.exists():
        raise ArtifactError(
            "a file that holds no contexts is there already", where=solution.out, cure="choose another --out"
        )
    if found is not None:
        _refuse_other(solution.out, found, notes)
    retriever = Resources.open(solution).retriever()
    batches = ContextBatches(solution.out, questions, notes, retriever.batch)
    with batches.work.claimed(), stage("contexts", quiet=False):
        batches.fill(retriever)
        batches.join()
    return True


def _refuse_other(out: Path, found: dict[str, Any], notes: dict[str, Any]) -> None:
    """Contexts that took hours are not written over because a flag names their file."""
    told = {"questions": "questions", "index": "index", "contexts": "settings", "limit": "limit"}
    differing = [name for key, name in told.items() if found.get(key) != notes.get(key)]
    raise ArtifactError(
        f"contexts with other {' and '.join(differing or ['notes'])} are there already", where=out,
        cure="choose another --out, or remove that file first",
    )  # fmt: skip


def _notes(solution: Solution) -> dict[str, Any]:
    """What decides the contexts: the questions, the index, the settings."""
    assert solution.questions and solution.index
    Index(solution.index, verify_content=False)
    settings = json.loads(solution.contexts.model_dump_json())
    # Files that were made without a limit have no such note.
    limit = {"limit": solution.limit} if solution.limit else {}
    return {
        "questions": sha256(solution.questions),
        "index": sha256(solution.index / MANIFEST),
        "contexts": settings,
        **limit,
    }
