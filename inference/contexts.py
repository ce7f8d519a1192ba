"""Run the contexts stage on disk, batch by batch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.context_batches import ContextBatches
from inference.run_notes import reranker_of
from kaggle_rag.config import ContextSettings, Solution
from kaggle_rag.data.context_files import ContextStream
from kaggle_rag.data.contexts import read_notes
from kaggle_rag.data.questions import Questions
from kaggle_rag.index.index import Index
from kaggle_rag.index.manifest import MANIFEST
from kaggle_rag.rankers.resources import Resources
from kaggle_rag.retrieval.retriever import BATCH, batch_size
from kaggle_rag.runtime.cluster import Cluster
from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.files import sha256
from kaggle_rag.runtime.limits import stage

# Questions whose contexts are looked through at a time.
_SPAN = 512


def contexts_to_file(solution: Solution, questions: Questions, cluster: Cluster | None = None) -> bool:
    """Write the contexts to ``out``; return ``False`` if it already holds exactly these.

    Batches are stored next to ``out`` until all are complete, so a killed run can resume, on a cluster or
    without one.
    """
    assert solution.out
    notes = _notes(solution)
    existing = _of_today(read_notes(solution.out))
    if existing == notes:
        for _ in ContextStream(solution.out, questions, _SPAN).spans():
            """Whatever is wrong with a row is raised."""
        return False
    if existing is None and solution.out.exists():
        raise ArtifactError(
            "a file without contexts already exists", where=solution.out, cure="choose another --out"
        )
    if existing is not None:
        _refuse_other(solution.out, existing, notes)
    if cluster:
        _on_cluster(cluster, solution, questions, notes)
        return True
    retriever = Resources.open(solution).retriever()
    batches = ContextBatches(solution.out, questions, notes, BATCH, retriever.together)
    with batches.work.claimed(), stage("contexts", quiet=False):
        batches.fill(retriever.stream)
        batches.join()
    return True


def _of_today(notes: dict[str, Any] | None) -> dict[str, Any] | None:
    """Notes of an earlier version, with today's settings that it did not have at their defaults."""
    if not notes or not isinstance(told := notes.get("contexts"), dict):
        return notes
    try:
        settings = ContextSettings.model_validate(told)
    except ValueError:
        return notes
    return {**notes, "contexts": json.loads(settings.model_dump_json())}


def _on_cluster(
    cluster: Cluster, solution: Solution, questions: Questions, notes: Mapping[str, Any]
) -> None:
    from inference.ray_batches import find_contexts, joined

    assert solution.out and solution.index
    with joined(cluster) as crew:
        index = Index(solution.index, verify_content=False)
        # Stored in batches of one size with a cluster and without, so that either goes on with the other's.
        together = batch_size(index, solution.contexts, crew.share.device)
        batches = ContextBatches(solution.out, questions, notes, BATCH, together)
        with batches.work.claimed(), stage("contexts", quiet=False):
            find_contexts(crew, solution, batches)
            batches.join()


def _refuse_other(out: Path, existing: dict[str, Any], notes: dict[str, Any]) -> None:
    """Do not let a flag overwrite contexts that took hours."""
    labels = {
        "questions": "questions", "index": "index", "contexts": "settings", "limit": "limit",
        "reranker": "re-ranker",
    }  # fmt: skip
    differing = [name for key, name in labels.items() if existing.get(key) != notes.get(key)]
    raise ArtifactError(
        f"contexts with other {' and '.join(differing or ['notes'])} already exist", where=out,
        cure="choose another --out, or remove that file first",
    )  # fmt: skip


def _notes(solution: Solution) -> dict[str, Any]:
    """What determines the contexts: the questions, the index, the settings."""
    assert solution.questions and solution.index
    Index(solution.index, verify_content=False)
    settings = json.loads(solution.contexts.model_dump_json())
    # Files made without a limit have no such note.
    limit = {"limit": solution.limit} if solution.limit else {}
    return {
        "questions": sha256(solution.questions),
        "index": sha256(solution.index / MANIFEST),
        "contexts": settings,
        **reranker_of(solution),
        **limit,
    }
