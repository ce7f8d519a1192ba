"""A bundle as it lies on disk: what it says of itself, and its notebook."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.notebook.split import MARK, folder_of
from inference.notebook.writing import SEAL
from kaggle_rag.runtime.errors import ConfigError, InputError
from kaggle_rag.runtime.limits import parse_duration

KERNEL, DATASET = "kernel-metadata.json", "dataset-metadata.json"
_EXPECTED = "a folder that python -m inference bundle wrote"
# The notebook's own limit, as python -m inference bundle writes it.
_TIME = re.compile(r"""--time["']?(?:\s*,\s*|[ =])["']?([0-9.]+[smh]?)""")


@dataclasses.dataclass(frozen=True)
class OpenedBundle:
    """A bundle.

    Attributes
    ----------
    listed : ``bundle.json``.
    kernel, dataset : the metadata of the notebook and of the dataset.
    notebook : path of the ``.ipynb``.
    cells : the sources of its code cells.
    more : the folders of its further datasets.
    """

    folder: Path
    listed: Mapping[str, Any]
    kernel: Mapping[str, Any]
    dataset: Mapping[str, Any]
    notebook: Path
    cells: tuple[str, ...]
    more: tuple[Path, ...] = ()

    @property
    def id(self) -> str:
        """The dataset, as ``owner/slug``."""
        return str(self.listed["id"])

    @property
    def competition(self) -> str:
        """Slug of the competition whose files the notebook reads; empty if it names none."""
        sources = self.kernel.get("competition_sources") or [""]
        return str(sources[0]) if isinstance(sources, list) else ""

    @property
    def gpu(self) -> bool:
        """Whether the notebook asks for one."""
        return self.kernel.get("enable_gpu") in (True, "true")

    @property
    def source(self) -> str:
        """All its code."""
        return "\n".join(self.cells)

    @property
    def own_limit(self) -> float | None:
        """Seconds after which the notebook ends by itself (``--time``); ``None`` if it does not."""
        try:
            found = _TIME.search(self.source)
            return parse_duration(found[1]) if found else None
        except ConfigError:
            return None

    @property
    def bytes(self) -> int:
        """What all its files weigh."""
        return sum(map(bytes_of, self.folders))

    @property
    def folders(self) -> tuple[Path, ...]:
        """Those of all its datasets."""
        return (self.folder, *self.more)

    def at(self, name: str) -> Path:
        """Where a file or folder of it lies: in the first dataset, if in none."""
        return next((each / name for each in self.folders if (each / name).exists()), self.folder / name)


def bytes_of(folder: Path) -> int:
    """What all files below it weigh."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def opened(folder: Path) -> OpenedBundle:
    """Read a bundle.

    Raises
    ------
    InputError : this is no bundle, or its notebook cannot be read.
    """
    if not folder.is_dir():
        raise InputError("no such folder", where=folder, expected=_EXPECTED)
    listed = _json(folder / SEAL)
    files = listed.get("files")
    sized = isinstance(files, dict) and all(
        isinstance(seal, dict) and "bytes" in seal for seal in files.values()
    )
    if not (sized and str(listed.get("id")).count("/") == 1):
        raise InputError("this is no bundle", where=folder / SEAL, expected=_EXPECTED)
    kernel = _json(folder / "notebook" / KERNEL)
    notebook = folder / "notebook" / str(kernel.get("code_file", ""))
    cells = _json(notebook).get("cells")
    if not isinstance(cells, list):
        raise InputError("this is no notebook", where=notebook, expected="nbformat 4, with cells")
    sources = tuple(
        "".join(cell["source"])
        for cell in cells
        if isinstance(cell, dict) and cell.get("cell_type") == "code"
    )
    dataset = _json(folder / DATASET)
    return OpenedBundle(
        folder.absolute(), listed, kernel, dataset, notebook.absolute(), sources, _more(folder, listed)
    )


def _more(folder: Path, listed: Mapping[str, Any]) -> tuple[Path, ...]:
    """The folders of its further datasets, which lie beside it."""
    count = len(listed.get("datasets") or [1])
    folders = tuple(folder_of(folder.absolute(), number) for number in range(2, count + 1))
    for each in folders:
        if not (each / MARK).is_file():
            raise InputError(
                "no such dataset, and the bundle has files there", where=each, expected=_EXPECTED,
                cure="put it beside the bundle again, or make the bundle again",
            )  # fmt: skip
    return folders


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError("no such file: this is no bundle", where=path, expected=_EXPECTED)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}", where=path, expected=_EXPECTED) from error
    if not isinstance(value, dict):
        raise InputError("not a JSON object", where=path, expected=_EXPECTED)
    return value
