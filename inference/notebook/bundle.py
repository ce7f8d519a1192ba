"""Package a solution: a folder to upload as a dataset, with the notebook that runs it offline."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from inference.checks import check_rankers
from inference.notebook.contents import Part, contents_of
from inference.notebook.image import Image, read_image
from inference.notebook.kaggle_client import push, require_client
from inference.notebook.metadata import MOST, Names
from inference.notebook.report import BundleReport
from inference.notebook.split import assigned, names_of
from inference.notebook.wheels import lacking, require_fitting, requirements
from inference.notebook.writing import BundleWriter, require_free
from kaggle_rag.config import Solution
from kaggle_rag.models.devices import require_kind
from kaggle_rag.rankers.checks import check_models
from kaggle_rag.runtime.errors import ConfigError, KitError
from kaggle_rag.runtime.faults import Gathered
from kaggle_rag.runtime.files import require_space

# The freeze by which the wheels were chosen; a rehearsal compares them with it again.
IMAGE = "image.txt"
# Room for the wheels, whose sizes the index does not tell.
_WHEELS = 500 * 10**6


class Wanted(NamedTuple):
    """What is asked for beside the solution.

    Attributes
    ----------
    freeze : the image's ``pip freeze``; ``None`` bundles no wheels.
    python : Python of the image, if the freeze does not tell.
    dataset : bytes that one dataset may have.
    """

    names: Names
    out: Path
    freeze: Path | None
    python: str | None
    wheels: bool = True
    dry_run: bool = False
    push: bool = False
    dataset: int = MOST


def bundle(solution: Solution, wanted: Wanted, faults: Sequence[KitError] = ()) -> BundleReport:
    """Write a bundle, or with ``dry_run`` list what it would hold.

    Raises
    ------
    KitError : everything that is wrong with the solution, the names, the image or the place, at once; a file
        that has changed since it was sealed; not enough disk.
    """
    image = _check(solution, wanted, faults)
    contents = contents_of(solution)
    if not wanted.names.competition:
        note = "no --competition: on the host, the notebook finds no test set until one is added"
        contents = dataclasses.replace(contents, notes=(*contents.notes, note))
    if wanted.freeze:
        part = Part(IMAGE, "the packages of the notebook's image", {IMAGE: wanted.freeze})
        contents = dataclasses.replace(contents, parts=(*contents.parts, part))
    needed = requirements(contents.packages)
    if image:
        require_fitting(image, needed)
    wheels = lacking(image, needed) if image and wanted.wheels else []
    numbers = assigned(contents.parts, wanted.dataset, _WHEELS if wheels else 0)
    report = BundleReport(
        wanted.names, None, contents.parts, tuple(wheels), image.python if image and wanted.wheels else "",
        contents.notes, datasets=_datasets(wanted.names, contents.parts, numbers),
    )  # fmt: skip
    for number in range(2, len(report.datasets) + 1):
        names_of(wanted.names, number).require()
    if wanted.dry_run:
        return report
    require_space(wanted.out.parent, report.bytes + (_WHEELS if wheels else 0))
    parts = BundleWriter(solution, wanted.out, contents, report, numbers).write()
    if wanted.push:
        push(wanted.out, [each for each, _ in report.datasets])
    return dataclasses.replace(report, out=wanted.out, parts=parts, pushed=wanted.push)


def _datasets(
    names: Names, parts: Sequence[Part], numbers: Mapping[str, int]
) -> tuple[tuple[Names, int], ...]:
    """What each dataset is called, and the bytes of what is copied into it."""
    sizes = dict.fromkeys(range(1, max(numbers.values()) + 1), 0)
    for part in parts:
        for name, path in part.files.items():
            sizes[numbers[name]] += path.stat().st_size
    return tuple((names_of(names, number), size) for number, size in sizes.items())


def _check(solution: Solution, wanted: Wanted, faults: Sequence[KitError]) -> Image | None:
    """Raise all faults at once; return the image if one is given."""
    gathered = Gathered()
    gathered.faults += faults
    wanted.names.check(gathered)
    if solution.contexts_file and not solution.index:
        with gathered.check():
            raise ConfigError(
                "contexts_file has contexts of these questions alone; the hidden ones need an index",
                where="solution.yaml", cure="set index, or remove contexts_file to answer without contexts",
            )  # fmt: skip
    check_models(gathered, solution, search=solution.index is not None, encodes=True)
    check_rankers(gathered, solution)
    image = None
    if wanted.freeze:
        with gathered.check():
            image = read_image(wanted.freeze, wanted.python)
    elif wanted.wheels:
        with gathered.check():
            raise ConfigError(
                "not given: image", expected="--image FREEZE.txt, the pip freeze of the notebook's image",
                cure="run `pip freeze > freeze.txt` in a notebook, or bundle without wheels: --wheels none",
            )  # fmt: skip
    with gathered.check():
        require_kind(solution.device)
    if not wanted.dry_run:
        with gathered.check():
            require_free(wanted.out)
        with gathered.check():
            _require_outside(wanted.out, solution)
    if wanted.push and not wanted.dry_run:
        with gathered.check():
            require_client()
    gathered.tell()
    return image


def _require_outside(out: Path, solution: Solution) -> None:
    """What is copied must not grow while it is copied."""
    folders = [each.options.get("folder") for each in solution.rankers]
    for folder in filter(None, [solution.index, *folders]):
        if out.resolve().is_relative_to(Path(folder).resolve()):
            raise ConfigError(f"OUT lies inside {folder}", where=out, cure="choose another --out")
