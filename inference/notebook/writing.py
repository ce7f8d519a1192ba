"""Write a bundle whole: copies of its parts, the wheels, the settings, metadata and the notebook."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from inference.notebook.contents import Contents, Part
from inference.notebook.metadata import dataset_metadata, kernel_metadata
from inference.notebook.notebook import notebook
from inference.notebook.report import BundleReport
from inference.notebook.split import MARK, folder_of, mark_of
from inference.notebook.wheels import download
from kaggle_rag.config import Solution
from kaggle_rag.runtime.console import progress
from kaggle_rag.runtime.errors import ArtifactError, KitError
from kaggle_rag.runtime.files import fields_sha256, seal, sha256, whole_file, write_json
from kaggle_rag.runtime.work_folder import WorkFolder

SEAL = "bundle.json"
FORMAT = 1
# Of the nine hours that competitions usually allow.
_TIME = "8.5h"
_BLOCK = 1 << 20


class _Folder(WorkFolder):
    """Copies of other files are worth nothing: they are cleared away."""

    def worth_keeping(self) -> bool:
        return False


class BundleWriter:
    """Writes a bundle aside, in ``OUT.work``, and gives it its name when it is whole.

    A killed run, started again with the same inputs, takes up the files that it had copied; one that fails
    leaves nothing.
    """

    def __init__(
        self, solution: Solution, out: Path, contents: Contents, report: BundleReport,
        numbers: Mapping[str, int],
    ) -> None:  # fmt: skip
        self.solution, self.out, self.contents, self.report = solution, out, contents, report
        # Of the dataset that each file is in; what is made here is in the first.
        self.numbers = numbers
        self.work = _Folder(
            out.with_name(out.name + ".work"), self._key(), "bundle", file="work.json",
            cure="remove this folder, or choose another --out",
        )  # fmt: skip

    def _key(self) -> dict[str, Any]:
        """What tells whether files copied earlier are those of today."""
        files = {name: path.stat() for part in self.contents.parts for name, path in part.files.items()}
        return {
            "bundle": self.report.names.id,
            "datasets": len(self.report.datasets),
            "files": {name: [each.st_size, each.st_mtime_ns] for name, each in files.items()},
        }

    def write(self) -> tuple[Part, ...]:
        """Write everything; return the parts, with the wheels among them."""
        with self.work.claimed() as work:
            made = work / "bundle"
            try:
                self._require_free()
                parts = self._fill(made)
                # Whoever made something there meanwhile is not overwritten.
                self._require_free()
                # The first one comes last: it makes the bundle whole.
                for number in range(len(self.report.datasets), 1, -1):
                    folder_of(made, number).replace(folder_of(self.out, number))
                self.work.publish(made, self.out)
            except (KitError, OSError):
                shutil.rmtree(work, ignore_errors=True)
                raise
        return tuple(
            dataclasses.replace(part, files={name: self._at(self.out, name) for name in part.files})
            for part in parts
        )

    def _require_free(self) -> None:
        for number in range(1, len(self.report.datasets) + 1):
            require_free(folder_of(self.out, number))

    def _at(self, out: Path, name: str) -> Path:
        """Where a file of a bundle at ``out`` lies."""
        return folder_of(out, self.numbers.get(name, 1)) / name

    def _fill(self, made: Path) -> list[Part]:
        # These take seconds, and may be of earlier settings.
        for name in ("wheels", "notebook"):
            shutil.rmtree(made / name, ignore_errors=True)
        files = self._copy(made)
        parts = [*self.report.parts, *self._wheels(made), self._settings(made)]
        files |= seal(made, [name for part in parts for name in part.files if name not in files])
        self._describe(made, parts, files)
        return parts

    def _copy(self, made: Path) -> dict[str, dict[str, Any]]:
        """Copy the parts; return bytes and checksum of each file."""
        files: dict[str, dict[str, Any]] = {}
        with progress(self.report.bytes, "copy", "B", unit_scale=True) as bar:
            for part in self.contents.parts:
                for name, source in part.files.items():
                    target = self._at(made, name)
                    checksum = _copied(source, target, bar.update)
                    if checksum != part.sums.get(name, checksum):
                        raise ArtifactError(
                            "this file has changed since it was made", where=source,
                            cure=f"make it again: it is for {part.name}",
                        )  # fmt: skip
                    files[name] = {"bytes": target.stat().st_size, "sha256": checksum}
                    if self.numbers[name] > 1:
                        files[name]["dataset"] = self.numbers[name]
        return files

    def _wheels(self, made: Path) -> list[Part]:
        if not self.report.wheels:
            return []
        paths = download(self.report.wheels, self.report.python, made / "wheels")
        files = {f"wheels/{path.name}": path for path in paths}
        return [Part("wheels", "packages that the image lacks", files)]

    def _settings(self, made: Path) -> Part:
        path = made / "solution.yaml"
        with whole_file(path) as aside:
            text = yaml.safe_dump(self.contents.settings, sort_keys=False, allow_unicode=True)
            aside.write_text(text, encoding="utf-8")
        return Part(path.name, "the settings", {path.name: path})

    def _describe(self, made: Path, parts: Sequence[Part], files: Mapping[str, Any]) -> None:
        """Write what the parts are, the files that Kaggle's client reads, and the notebook."""
        names = self.report.names
        fields = {
            "kind": "kaggle-rag bundle", "format": FORMAT, "id": names.id,
            "parts": {part.name: {"purpose": part.purpose, "bytes": part.bytes} for part in parts},
            "wheels": list(map(str, self.report.wheels)),
            "python": self.report.python,
            "datasets": [each.id for each, _ in self.report.datasets],
            "files": dict(sorted(files.items())),
        }  # fmt: skip
        write_json(made / SEAL, {**fields, "sha256": fields_sha256(fields)})
        datasets = [each for each, _ in self.report.datasets]
        for number, each in enumerate(datasets, 1):
            folder = folder_of(made, number)
            write_json(folder / "dataset-metadata.json", dataset_metadata(each))
            if number > 1:
                write_json(folder / MARK, mark_of(names, number))
        kernel = kernel_metadata(names, [each.id for each in datasets], gpu=self.solution.device != "cpu")
        write_json(made / "notebook" / "kernel-metadata.json", kernel)
        flags = ["--time", f"{self.solution.limits.time:g}s" if self.solution.limits.time else _TIME]
        if not self.solution.index:
            flags.append("--without-contexts")
        write_json(made / "notebook" / kernel["code_file"], notebook(names, flags, len(datasets)))


def require_free(out: Path) -> None:
    """Raise ``ArtifactError`` unless ``out`` is new or an empty folder."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ArtifactError(
            "something is there already", where=out, expected="a new or empty folder",
            cure="choose another --out, or remove this one",
        )  # fmt: skip


def _copied(source: Path, target: Path, on_bytes: Callable[[int], object]) -> str:
    """Copy a file, unless an earlier run did; return the SHA-256 of what was copied."""
    if target.is_file():
        return sha256(target, on_bytes)
    digest = hashlib.sha256()
    with whole_file(target) as aside, source.open("rb") as given, aside.open("wb") as file:
        while block := given.read(_BLOCK):
            file.write(block)
            digest.update(block)
            on_bytes(len(block))
    return digest.hexdigest()
