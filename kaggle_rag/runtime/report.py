"""What a command finds: one typed object, shown as text or as JSON."""

from __future__ import annotations

import json
from typing import Any, Protocol


class Report(Protocol):
    """What a command found."""

    def as_json(self) -> dict[str, Any]:
        """It as what `json.dumps` takes."""

    def text(self) -> str:
        """It as a person reads it."""


def show(report: Report, *, as_json: bool = False) -> None:
    """Print a report."""
    print(json.dumps(report.as_json(), indent=2, ensure_ascii=False) if as_json else report.text())
