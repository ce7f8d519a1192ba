"""Which questions a model has learnt from, beside its weights: a score on those tells nothing of others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from kaggle_rag.data.questions import Questions
from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.files import write_json
from kaggle_rag.text.normalise import same

FILE = "learnt.json"


def marks(questions: Questions) -> list[str]:
    """A hash of each question that does not depend on case, spaces, or the order of its options."""
    return [
        hashlib.blake2b(
            repr((same(prompt), sorted(same(option) for option in options if option is not None))).encode(),
            digest_size=8,
        ).hexdigest()
        for prompt, options in zip(questions.prompts, questions.options)
    ]


def write(folder: Path, learnt: Iterable[str]) -> None:
    """Write the marks of the questions beside a model."""
    write_json(folder / FILE, {"questions": sorted(set(learnt))})


def read(folder: Path) -> frozenset[str]:
    """The marks of the questions that a model has learnt from; none if nothing is known of it.

    Raises
    ------
    ArtifactError : the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return frozenset()
    try:
        return frozenset(map(str, json.loads(path.read_text(encoding="utf-8"))["questions"]))
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(
            "the questions that this model has learnt from cannot be read", where=path,
            cure="copy the model's folder again, or remove that file",
        ) from None  # fmt: skip
