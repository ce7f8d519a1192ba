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
from training.run import Run


def require_finder(command: str, settings: RetrieverSettings | RerankerSettings) -> None:
    """Raise ``KitError`` for what is wrong with the inputs of a retriever or a re-ranker."""
    run = Run(command, settings)
    run.require_own()
    lessons = read_lessons(settings.questions, settings.positive, settings.forms)
    without(lessons, settings.exclude)
    if settings.validation:
        read_lessons(settings.validation, settings.positive, settings.forms)
    if settings.passages:
        read_passages(settings.passages)


def require_ranker(command: str, settings: RankerRun) -> None:
    """Raise ``KitError`` for what is wrong with the inputs of a ranker."""
    run = Run(command, settings, FILES)
    run.require_own()
    Lessons.read(settings.questions, settings.contexts)
    if settings.validation:
        Lessons.read(settings.validation, settings.validation_contexts)
