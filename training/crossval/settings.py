"""What the user asks of a cross-validation, and what a diagnosis can withhold."""

from __future__ import annotations

import dataclasses
from pathlib import Path

# What the tables call the mixes of all rankers.
BLEND, STACKED = "blend", "stack"


@dataclasses.dataclass(frozen=True)
class CrossValidationSettings:
    """What the user asks for; see the flags of ``python -m training cross-validate``."""

    solution: Path
    questions: Path | None = None
    contexts: Path | None = None
    out: Path | None = None
    folds: int = 5
    fold: int | None = None
    seed: int = 0
    alike: str = "words+vectors"
    against: tuple[Path, ...] = ()
    stack: str | None = None
    changes: tuple[str, ...] = ()
    final: bool = False

    @property
    def folder(self) -> Path:
        return self.out or Path("runs") / self.solution.stem


# What the model without the input may not read, and what its information is then of.
WITHHELD = {
    "contexts": "what contexts tell beyond prompt and options (default where contexts are read)",
    "question": "what prompt and contexts tell beyond the options alone (default without contexts)",
    "all": "what all of it tells beyond chance: options are exchangeable, so nothing need be trained",
}
