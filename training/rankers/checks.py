"""Find every fault in the inputs of a ranker's training before any work."""

from __future__ import annotations

from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.faults import Gathered
from training.loop.checks import require_own, require_there
from training.loop.run_folder import Run
from training.rankers.dataset import RankerDataset
from training.rankers.settings import FILES, RankerRun


def require_ranker(command: str, settings: RankerRun, *, dry: bool) -> None:
    """Raise ``KitError`` for everything that is wrong with the inputs of a ranker."""
    faults = Gathered()
    with faults.check():
        require_own(Run(command, settings, FILES), dry)
    note = ""
    with faults.check():
        note = RankerDataset.read(settings.questions, settings.contexts_file, settings.limit).unread()
    if settings.validation:
        with faults.check():
            RankerDataset.read(settings.validation, settings.validation_contexts)
    check_backbone(faults, settings)
    faults.tell()
    if note:
        say(note)


def check_backbone(faults: Gathered, settings: RankerRun) -> None:
    """Check the backbone's folder, and the files besides questions and contexts."""
    with faults.check():
        resolve(settings.model)
    for path in (settings.weaker_contexts, settings.drop, *settings.exclude):
        if path is not None:
            with faults.check():
                require_there(path)
