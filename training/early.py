"""What is wrong with the files and folders of a training, told before torch is imported for it.

The programs read the same again when they learn from it: a second for the usual thousands of questions,
against the seconds that every mistake would wait for the libraries.
"""

from __future__ import annotations

from training.config import RerankerSettings, RetrieverSettings
from training.corpus import read_passages
from training.lessons import read_lessons, without
from training.ranker_config import FILES, RankerRun
from training.ranker_data import Lessons
from training.run import Run, is_first


def require_finder(command: str, settings: RetrieverSettings | RerankerSettings, *, dry: bool) -> None:
    """Raise ``KitError`` for what is wrong with the inputs of a retriever or a re-ranker."""
    _require_own(Run(command, settings), dry)
    lessons = read_lessons(settings.questions, settings.positive, settings.forms)
    without(lessons, settings.exclude)
    if settings.validation:
        read_lessons(settings.validation, settings.positive, settings.forms)
    if settings.passages:
        read_passages(settings.passages)


def require_ranker(command: str, settings: RankerRun, *, dry: bool) -> None:
    """Raise ``KitError`` for what is wrong with the inputs of a ranker."""
    _require_own(Run(command, settings, FILES), dry)
    Lessons.read(settings.questions, settings.contexts, settings.limit)
    if settings.validation:
        Lessons.read(settings.validation, settings.validation_contexts)


def _require_own(run: Run, dry: bool) -> None:
    """A dry run writes nothing; of several processes the first one may be about to make the folder."""
    if is_first() and not dry:
        run.require_own()
