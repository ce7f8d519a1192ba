"""Find every fault in the inputs of a ranker's training before any work."""

from __future__ import annotations

from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.faults import Gathered
from training.loop.checks import require_own
from training.loop.run_folder import Run
from training.rankers.dataset import RankerDataset
from training.rankers.peft_methods import require_options
from training.rankers.settings import RankerRun
from training.rankers.teacher import require_teacher


def require_ranker(command: str, settings: RankerRun, *, dry: bool) -> None:
    """Raise ``KitError`` for everything that is wrong with the inputs of a ranker."""
    faults = Gathered()
    with faults.check():
        settings.check_inputs()
    with faults.check():
        require_options(settings.peft.method, settings.peft.options)
    with faults.check():
        resolve(settings.model)
    with faults.check():
        require_own(Run(command, settings), dry)
    note = ""
    with faults.check():
        note = RankerDataset.read(settings.questions, settings.contexts_file, settings.limit).unread()
    if settings.validation:
        with faults.check():
            RankerDataset.read(settings.validation, settings.validation_contexts)
    faults.tell()
    require_teacher(settings)
    if note:
        say(note)
