"""Find every fault in the inputs of a retriever's or re-ranker's training before any work."""

from __future__ import annotations

from kaggle_rag.index.manifest import Manifest
from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.runtime.faults import Gathered
from training.loop.checks import require_own
from training.loop.run_folder import Run
from training.retrieval.corpus import read_passages
from training.retrieval.queries import read_queries, without
from training.retrieval.settings import RerankerSettings, RetrieverSettings


def require_finder(command: str, settings: RetrieverSettings | RerankerSettings, *, dry: bool) -> None:
    """Raise ``KitError`` for everything that is wrong with the inputs of a retriever or re-ranker."""
    faults = Gathered()
    with faults.check():
        require_own(Run(command, settings), dry)
    with faults.check():
        resolve(settings.model)
    with faults.check():
        without(read_queries(settings.questions, settings.positive, settings.forms), settings.exclude)
    if settings.validation:
        with faults.check():
            read_queries(settings.validation, settings.positive, settings.forms)
    # A file that is not there is reported already.
    if settings.passages and settings.passages.exists():
        with faults.check():
            read_passages(settings.passages)
    if settings.index:
        with faults.check():
            Manifest.read(settings.index)
    faults.tell()
