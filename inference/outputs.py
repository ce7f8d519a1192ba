"""Where a run may write: checked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kaggle_rag.config import Solution
from kaggle_rag.data.submission import is_submission
from kaggle_rag.data.tables import READERS
from kaggle_rag.index.manifest import MANIFEST
from kaggle_rag.runtime.errors import ConfigError, InputError
from kaggle_rag.runtime.files import require_writable


def check_out(solution: Solution, endings: set[str], inputs: Sequence[Path] = ()) -> None:
    """Refuse, before any work, an ``out`` that is an input, has the wrong extension, or is not writable."""
    out = solution.out
    assert out is not None
    if out.suffix.lower() not in endings:
        raise ConfigError(
            f"{out.name!r} has the wrong extension",
            where="--out",
            expected=" or ".join(sorted(endings)),
        )
    for path in (solution.questions, solution.contexts_file, *inputs):
        if path and path.exists() and out.exists() and out.samefile(path):
            raise ConfigError("this would overwrite an input", where=out, cure="choose another --out")
    index = solution.index
    if index and (index / MANIFEST).exists() and out.resolve().is_relative_to(index.resolve()):
        raise ConfigError("this is inside the index", where=out, cure="choose another --out")
    if out.exists() and not out.is_file():
        raise ConfigError("not a file that could be written", where=out, cure="choose another --out")
    require_writable(out.parent)


def check_out_folder(out: Path) -> None:
    """Refuse, before any work, an ``out`` that is no folder, or is not writable."""
    if out.suffix.lower() in (".csv", *READERS):
        raise ConfigError(
            f"{out.name!r} is the name of a file", where="--out",
            expected="a folder, such as teacher.predictions: each ranker writes a file into it",
        )  # fmt: skip
    if out.exists() and not out.is_dir():
        raise ConfigError("a file exists where a folder is needed", where=out, cure="choose another --out")
    require_writable(out if out.exists() else out.parent)


def refuse_other_file(out: Path) -> None:
    """Refuse, before any work, to overwrite anything but a submission."""
    if out.exists() and not is_submission(out):
        raise InputError(
            "a file that is not a submission already exists", where=out, cure="choose another --out"
        )
