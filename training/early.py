"""What is wrong with the files and folders of a training, told before torch is imported for it.

The programs read the same again when they learn from it: a second for the usual thousands of questions,
against the seconds that every mistake would wait for the libraries.
"""

from __future__ import annotations

from pathlib import Path

from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.faults import Gathered
from kaggle_rag.runtime.files import Manifest
from training.loop.run_folder import Run, is_first, say
from training.rankers.dataset import Lessons
from training.rankers.settings import FILES, RankerRun
from training.retrieval.corpus import read_passages
from training.retrieval.queries import read_lessons, without
from training.retrieval.settings import RerankerSettings, RetrieverSettings


def require_finder(command: str, settings: RetrieverSettings | RerankerSettings, *, dry: bool) -> None:
    """Raise ``KitError`` for all that is wrong with the inputs of a retriever or a re-ranker."""
    found = Gathered()
    with found.check():
        _require_own(Run(command, settings), dry)
    with found.check():
        resolve(settings.model)
    with found.check():
        without(read_lessons(settings.questions, settings.positive, settings.forms), settings.exclude)
    if settings.validation:
        with found.check():
            read_lessons(settings.validation, settings.positive, settings.forms)
    if settings.passages:
        with found.check():
            read_passages(settings.passages)
    if settings.index:
        with found.check():
            Manifest.read(settings.index)
    found.tell()


def require_ranker(command: str, settings: RankerRun, *, dry: bool) -> None:
    """Raise ``KitError`` for all that is wrong with the inputs of a ranker."""
    found = Gathered()
    with found.check():
        _require_own(Run(command, settings, FILES), dry)
    note = ""
    with found.check():
        note = Lessons.read(settings.questions, settings.contexts, settings.limit).unread()
    if settings.validation:
        with found.check():
            Lessons.read(settings.validation, settings.validation_contexts)
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


def require_there(path: Path) -> None:
    """Raise ``InputError`` where no file is."""
    if not path.is_file():
        raise InputError("no such file", where=path, cure="check the spelling of the path")


def _require_own(run: Run, dry: bool) -> None:
    """A dry run writes nothing; of several processes the first one may be about to make the folder."""
    if is_first() and not dry:
        run.require_own()
