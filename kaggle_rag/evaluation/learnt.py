"""Which questions a model was trained on, beside its weights: its score on those says nothing of others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from kaggle_rag.data.questions import Questions
from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.files import write_json
from kaggle_rag.text.normalise import same

FILE = "learnt.json"


class Learnt(NamedTuple):
    """The marks of the questions that a model was trained on.

    ``complete`` is false where it was made from a model that does not say which it was trained on.
    """

    marks: frozenset[str]
    complete: bool = True


def marks(questions: Questions) -> list[str]:
    """A hash of each question that does not depend on case, spaces, or the order of its options."""
    return [
        hashlib.blake2b(
            repr((same(prompt), sorted(same(option) for option in options if option is not None))).encode(),
            digest_size=8,
        ).hexdigest()
        for prompt, options in zip(questions.prompts, questions.options)
    ]


def write(folder: Path, learnt: Learnt) -> None:
    """Write it beside a model."""
    write_json(folder / FILE, {"questions": sorted(learnt.marks), "complete": learnt.complete})


def read(folder: Path) -> Learnt | None:
    """What a model says it was trained on; ``None`` if it says nothing.

    Raises
    ------
    ArtifactError : the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored["questions"], list):
            raise TypeError
        return Learnt(frozenset(map(str, stored["questions"])), bool(stored["complete"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise ArtifactError(
            "cannot be read: it names the questions that this model was trained on", where=path,
            cure="copy the model's folder again, or remove that file",
        ) from None  # fmt: skip


def union(parents: Iterable[Learnt | None], own: Iterable[str] = ()) -> Learnt:
    """Of a model that was made from others, trained on ``own`` questions besides."""
    found = [*parents]
    return Learnt(
        frozenset(own).union(*(each.marks for each in found if each)),
        all(each is not None and each.complete for each in found),
    )
