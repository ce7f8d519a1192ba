"""All faults of the inputs of a ranker's training, before any work."""

from __future__ import annotations

from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.faults import Gathered
from training.loop.checks import require_own, require_there
from training.loop.run_folder import Run
from training.rankers.dataset import RankerDataset
from training.rankers.settings import FILES, RankerRun


def require_ranker(command: str, settings: RankerRun, *, dry: bool) -> None:
    """Raise ``KitError`` for all that is wrong with the inputs of a ranker."""
    found = Gathered()
    with found.check():
        require_own(Run(command, settings, FILES), dry)
    note = ""
    with found.check():
        note = RankerDataset.read(settings.questions, settings.contexts_file, settings.limit).unread()
    if settings.validation:
        with found.check():
            RankerDataset.read(settings.validation, settings.validation_contexts)
    check_backbone(found, settings)
    found.tell()
    if note:
        say(note)


def check_backbone(found: Gathered, settings: RankerRun) -> None:
    """The backbone's folder, and the files beside questions and contexts."""
    with found.check():
        resolve(settings.model)
    for path in (settings.weaker_contexts, settings.drop, *settings.exclude):
        if path is not None:
            with found.check():
                require_there(path)
