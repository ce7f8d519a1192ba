"""What a bundle holds: a line for each part, with its weight and what it is for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from inference.notebook.contents import Part
from inference.notebook.metadata import Names
from inference.notebook.split import folder_of
from inference.notebook.wheels import Wheel
from kaggle_rag.runtime.errors import show_size


@dataclasses.dataclass(frozen=True)
class BundleReport:
    """A bundle, made or planned.

    Attributes
    ----------
    out : its folder; ``None`` if nothing was written.
    parts : what it holds; the wheels among them once they are downloaded.
    wheels : what the image lacks.
    python : Python of the image; empty without one.
    pushed : whether Kaggle's client took it.
    datasets : what each is called, and its bytes without wheels.
    """

    names: Names
    out: Path | None
    parts: tuple[Part, ...]
    wheels: tuple[Wheel, ...]
    python: str
    notes: tuple[str, ...]
    pushed: bool = False
    datasets: tuple[tuple[Names, int], ...] = ()

    @property
    def bytes(self) -> int:
        """The weight of all parts."""
        return sum(part.bytes for part in self.parts)

    def as_json(self) -> dict[str, Any]:
        """The list as plain JSON."""
        return {
            "id": self.names.id,
            "out": self.out and str(self.out),
            "parts": [
                {"name": each.name, "purpose": each.purpose, "files": len(each.files), "bytes": each.bytes}
                for each in self.parts
            ],
            "bytes": self.bytes,
            "datasets": [{"id": each.id, "bytes": size} for each, size in self.datasets],
            "wheels": [str(wheel) for wheel in self.wheels],
            "python": self.python,
            "notes": list(self.notes),
            "pushed": self.pushed,
        }

    def text(self) -> str:
        """The list as readable text."""
        width = max(len(part.name) for part in self.parts) + 2
        lines = [f"{'part':<{width}}{'weight':>10}{'files':>7}  for"]
        lines += [
            f"{each.name:<{width}}{show_size(each.bytes):>10}{len(each.files):>7}  {each.purpose}"
            for each in self.parts
        ]
        lines.append(f"{'together':<{width}}{show_size(self.bytes):>10}")
        if len(self.datasets) > 1:
            lines += [f"dataset {each.id}: {show_size(size)}" for each, size in self.datasets]
        if self.wheels:
            lines.append(f"wheels for Python {self.python}: " + ", ".join(map(str, self.wheels)))
        elif self.python:
            lines.append(f"wheels: none; the image (Python {self.python}) has all that is needed")
        lines += [f"note: {note}" for note in self.notes]
        if self.out is None:
            return "\n".join([*lines, "nothing was written (--dry-run)"])
        done = "uploaded" if self.pushed else "upload it with --push, or with Kaggle's client"
        which = " and ".join(f"{folder_of(self.out, n)}" for n in range(1, len(self.datasets) + 1))
        return "\n".join([*lines, f"{which}: dataset {self.names.id} and its notebook; {done}"])
